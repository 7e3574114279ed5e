"""Label images with a model: label maps, a manifest, and a sheet to review them."""
