"""Training the graph network: settings, targets, losses, the run, and its weights on disk."""
