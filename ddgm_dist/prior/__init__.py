"""The prior: a local U-Net, its training and its weights; and denoisers that users bring."""
