"""Small real vision tasks: bodies from a supernet, shared heads from latent samples, pseudo-labels and true labels."""
