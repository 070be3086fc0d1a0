"""The paper: the DDGM loop, its schedule, descent and what a denoiser is asked for."""
