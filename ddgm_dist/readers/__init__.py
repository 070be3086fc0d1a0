"""Readers of common file formats: volumes, images, MRC, angles, YAML."""
