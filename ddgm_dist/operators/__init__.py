"""Forward models and their descents: the spectral slab operator and its spatial reference."""
