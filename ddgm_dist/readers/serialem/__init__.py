"""SerialEM's metadata of images."""
