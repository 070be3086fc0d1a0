"""Engines: where a plan is computed. They schedule; the step itself is in ``tile``."""
