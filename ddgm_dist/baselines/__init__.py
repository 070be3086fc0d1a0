"""Solvers that DDGM is compared with, on the same operator and, where they use one, denoiser."""
