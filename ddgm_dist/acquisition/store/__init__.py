"""Writing the store of a tilt series: blocks of rows, views that are kept for it, receipts."""
