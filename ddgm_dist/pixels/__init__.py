"""Which pixels of a tilt series are no measurement, and how that is found."""
