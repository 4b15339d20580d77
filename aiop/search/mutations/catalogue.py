"""All mutations, in the order in which a candidate applies them.

Widths first, from one analysis of the whole network; the others then find their places by name. Resolution last,
since it changes nothing but sizes.
"""

from __future__ import annotations

ORDER = ("width", "block", "kernel", "separable", "low-rank", "activation", "resolution")
