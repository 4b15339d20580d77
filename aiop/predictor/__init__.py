"""From a network to predicted values: the shipped predictor, and how one is made."""

from __future__ import annotations

from aiop.predictor.prediction import NetworkPrediction, Prediction
from aiop.predictor.predictor import Predictor, check_predictable, load
from aiop.predictor.run import pretrain_from_config, search_from_config

__all__ = [
    "NetworkPrediction",
    "Prediction",
    "Predictor",
    "check_predictable",
    "load",
    "pretrain_from_config",
    "search_from_config",
]
