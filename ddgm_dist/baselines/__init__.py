"""Solvers that DDGM is compared with, on the same operator."""
