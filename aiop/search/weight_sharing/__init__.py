"""Search by training: cells are compared by a duel in which both start from one shared set of weights."""
