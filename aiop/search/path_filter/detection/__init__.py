"""A once-for-all network that detects, trained with a path filter and without it (DetOFA, Sakuma et al., 2023)."""
