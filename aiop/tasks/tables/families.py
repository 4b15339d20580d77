"""The family of an architecture of timm: what must stay together when a table is split."""

from __future__ import annotations

import re

__all__ = ["family"]

# Ports, re-implementations and small additions to a family, written in front of its name.
_PREFIXES = ("tf_", "gluon_", "legacy_", "dm_", "eca_", "gc_", "ese_", "swsl_", "ssl_")

# First words that name a family only together with the second one.
_TWO_WORDS = ("bat", "inception", "lambda", "mobilenet", "nf", "wide")

# Other names of one family: same graph (deit and vit at equal size, beit and beitv2), or a variant of it.
_ALIASES = {
    "beitv2": "beit",
    "cs3se_edgenet": "cs3edgenet",
    "deit": "vit",
    "ecaresnetlight": "ecaresnet",
    "flexivit": "vit",
    "naflexvit": "vit",
    "nasnetalarge": "nasnet",
}

# Letters (with the digit of cs3... and a version such as v2), without what follows: depth, width, variant.
_STEM = re.compile(r"(?:cs3)?[a-z]+(?:(?<=v)\d)?")


def family(architecture: str) -> str:
    """Family of a timm architecture: its leading word without ports, sizes, patches and resolutions.

    >>> [family(name) for name in ("tf_efficientnet_b3", "vit_base_patch16_224", "resnet50d", "resnetv2_50")]
    ['efficientnet', 'vit', 'resnet', 'resnetv2']
    """
    name = architecture
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    words = name.split("_")
    first = _STEM.match(words[0])
    stem = first.group() if first else words[0]
    if len(words) > 1 and stem in (*_TWO_WORDS, "cs3se"):
        second = _STEM.match(words[1])
        stem = f"{stem}_{second.group() if second else words[1]}"
    return _ALIASES.get(stem, stem)
