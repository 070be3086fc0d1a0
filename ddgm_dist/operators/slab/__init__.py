"""The slab operator: a thin specimen that is tilted about one axis."""
