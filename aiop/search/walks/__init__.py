"""Compression walks on benchmark tables, where what every mutation does to the metric is known."""
