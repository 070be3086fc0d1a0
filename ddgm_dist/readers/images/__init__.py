"""Grey images: single files, folders and lists of them, and pages of TIFF files."""
