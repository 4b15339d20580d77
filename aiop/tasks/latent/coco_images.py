"""Image files that may come from anywhere: found inside a folder, measured by their headers, decoded to one size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aiop.errors import AiopError
from aiop.tasks.latent.coco_shapes import Fit

__all__ = ["FORMATS", "GREY", "MOST_PIXELS", "inside", "measure", "pillow", "pixels_of"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MOST_PIXELS = 1 << 26  # of one image
GREY = 127  # around an image that is no square


def pillow() -> Any:
    """The module that reads and writes images, loaded when it is needed.

    Raises:
        AiopError: where it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise AiopError(
            "folders of images need Pillow: install it with `pip install 'aiop[latent]'`"
        ) from None
    return Image


def inside(root: Path, name: str) -> Path:
    """The file of that name in ``root``, an absolute path that leads through no link.

    Raises:
        ValueError: there is none, or it lies elsewhere.
    """
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ValueError("lies outside the folder of the images")
        if not path.is_file():
            raise ValueError("is not there")
    except (OSError, RuntimeError):  # a name too long, links in a circle
        raise ValueError("is not there") from None
    return path


def measure(path: Path) -> tuple[int, int]:
    """Width and height by the header of an image.

    Raises:
        ValueError: it is no image, or too large a one.
    """
    image_tools = pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", image_tools.DecompressionBombWarning)  # the limit below is lower
            with image_tools.open(path, formats=FORMATS) as image:
                width, height = image.size
    except image_tools.DecompressionBombError:
        raise ValueError(f"has more than {MOST_PIXELS} pixels") from None
    except (OSError, ValueError, SyntaxError) as error:
        cause = getattr(error, "strerror", None) or f"it is no {', '.join(FORMATS)} file"
        raise ValueError(f"cannot be read: {cause}") from None
    if width * height > MOST_PIXELS:
        raise ValueError(f"has {width * height} pixels, more than {MOST_PIXELS}")
    return int(width), int(height)


def pixels_of(path: Path, fit: Fit) -> npt.NDArray[np.uint8]:
    """The image in its square, uint8 ``(size, size, 3)``.

    Raises:
        ValueError: it cannot be decoded, or is not of the size that `fit` was made for.
    """
    image_tools = pillow()
    try:
        with image_tools.open(path, formats=FORMATS) as file:
            if file.size != (fit.width, fit.height):
                raise ValueError("its size has changed")
            file.draft("RGB", fit.inner)  # JPEG: decodes no more than is needed
            pixels = file.convert("RGB")
            if pixels.size != fit.inner:
                pixels = pixels.resize(fit.inner, image_tools.Resampling.BILINEAR)
    except (OSError, SyntaxError, image_tools.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    return fit.square(np.asarray(pixels, dtype=np.uint8), GREY)
