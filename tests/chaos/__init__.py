"""Seeded runs on a three-node cluster whose workers, nodes and drivers are killed: `make chaos`."""
