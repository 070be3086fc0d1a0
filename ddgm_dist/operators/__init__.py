"""Forward models and their descents: slab tomography, blur, inpainting, MRI, transmission."""
