"""Which channels of a network must go together, and how it becomes thinner.

Every index of every axis of every tensor is an *atom*. The rule of an operator says which atoms of what it reads are
which of what it makes; classes of atoms that are linked, directly or not, go or stay together.
"""

from aiop.search.editing.coupling.groups import Coupling, Group, coupling
from aiop.search.editing.coupling.importance import IMPORTANCES, Importance, check_importance
from aiop.search.editing.coupling.shrinking import shrink

__all__ = ["IMPORTANCES", "Coupling", "Group", "Importance", "check_importance", "coupling", "shrink"]
