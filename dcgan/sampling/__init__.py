"""Use a trained generator: draw samples, show its latent space, export it."""
