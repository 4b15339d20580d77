"""The protocols that judge a predictor: what is kept out of it, how labels are drawn, and what methods are compared."""

from __future__ import annotations

from aiop.protocols.plan import Plan, load_plan, protocols_dir
from aiop.protocols.splits import TableSplit, load_split

__all__ = ["Plan", "TableSplit", "load_plan", "load_split", "protocols_dir"]
