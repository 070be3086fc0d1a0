"""The algorithm: geometry, schedules, addressed noise, windows, descent and the DDGM loop.

Torch and the standard library only: no I/O, no logging, no globals.
"""
