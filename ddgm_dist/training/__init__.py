"""Training of a denoiser on one's own images."""
