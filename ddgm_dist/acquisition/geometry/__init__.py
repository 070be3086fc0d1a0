"""The geometry of a source: how its images are aligned, their angles, and where pixels go."""
