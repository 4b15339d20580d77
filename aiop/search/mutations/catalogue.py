"""All mutations, in the order in which a candidate applies them.

Widths first, from one analysis of the whole network; the others then find their places by name. Resolution last,
since it changes nothing but sizes.
"""

from __future__ import annotations

from aiop.search.mutations.activation import Activation
from aiop.search.mutations.block import Block
from aiop.search.mutations.kernel import Kernel
from aiop.search.mutations.low_rank import LowRank
from aiop.search.mutations.resolution import Resolution
from aiop.search.mutations.separable import Separable
from aiop.search.mutations.width import Width

__all__ = ["ORDER"]

ORDER = tuple(
    mutation.name for mutation in (Width, Block, Kernel, Separable, LowRank, Activation, Resolution)
)
