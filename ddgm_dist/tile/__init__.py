"""One tile: state in, state out, and what is written of it for good."""
