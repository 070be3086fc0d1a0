"""AreTomo's alignments."""
