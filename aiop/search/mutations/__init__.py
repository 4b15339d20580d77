"""Mutations of networks that lower their costs and keep the weights they can, one per file."""
