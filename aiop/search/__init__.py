"""Search: mutations of networks, and loops guided by the predictor."""
