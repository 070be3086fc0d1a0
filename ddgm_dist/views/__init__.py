"""One view of a tilt series: faults, counts to line integrals, binning, and resampling."""
