"""Values that every other room speaks of: boxes, geometry, intensity, noise, windows.

Torch, numpy and the standard library only: no I/O, no logging, no globals.
"""
