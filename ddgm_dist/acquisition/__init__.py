"""From a microscope's or beamline's own files to a tilt-series store."""
