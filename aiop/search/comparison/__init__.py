"""Search methods on complete benchmark tables, where the best architecture is known."""
