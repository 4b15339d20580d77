"""A table of a user's own and a head fitted to half of it, once per module."""

import pytest
from own_labels import codes, write_table

import aiop


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache of its own: tables that tests write leave nothing in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("AIOP_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def own_table(own_cache, tmp_path_factory):
    """Sixty networks in ``cells.csv``."""
    path = tmp_path_factory.mktemp("own") / "cells.csv"
    write_table(path, codes(60))
    return path


@pytest.fixture(scope="module")
def own_head(own_table):
    """A head fitted to thirty of them."""
    return aiop.fit_head(own_table, "top1", budget=30)
