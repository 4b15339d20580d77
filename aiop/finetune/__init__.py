"""What goes on top of a trained network: calibration, experts, baselines and scores."""
