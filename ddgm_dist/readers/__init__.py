"""Other people's files: volumes, images, MRC, angles, YAML."""
