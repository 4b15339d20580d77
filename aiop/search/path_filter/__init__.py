"""The path filter: which networks are hopeless at their cost, whatever the budget (DetOFA, Sakuma et al., 2023).

`PathFilter` learns from any features, `NetworkFilter` from what a pretrained predictor sees. Fitted to measured
networks, they say of candidates how they rank among those of similar MACs (``score``) and which survive (``keep``).
"""

from __future__ import annotations

from aiop.search.path_filter.filter import PathFilter
from aiop.search.path_filter.front import hypervolume, on_front, pairwise_accuracy
from aiop.search.path_filter.network_filter import NetworkFilter
from aiop.search.path_filter.shares import kept

__all__ = ["NetworkFilter", "PathFilter", "hypervolume", "kept", "on_front", "pairwise_accuracy"]
