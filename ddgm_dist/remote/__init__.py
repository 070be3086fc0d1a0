"""A run as a job of a cluster elsewhere."""
