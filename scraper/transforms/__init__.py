"""The transforms that come with the package, by name. Nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from scraper.errors import UsageError
from scraper.protocols import Transform

TRANSFORMS = {
    "image": ("scraper.transforms.image", "ImageTransform"),
    "raw": ("scraper.transforms.raw", "RawTransform"),
}
"""Name → module and class. A new transform is one module and its line here."""


def transform_class(name: str) -> Callable[..., Transform]:
    """The class of that name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if name not in TRANSFORMS:
        raise UsageError(f"There is no transform {name!r}; there are: {', '.join(sorted(TRANSFORMS))}.")
    module, class_ = TRANSFORMS[name]
    found: Callable[..., Transform] = getattr(importlib.import_module(module), class_)
    return found
