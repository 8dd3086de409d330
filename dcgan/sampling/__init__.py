"""Use a trained model: draw samples, show its latent space and filters, export it."""
