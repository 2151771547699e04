"""The options of `refine`, as those who call it for others take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..crf import refine


def check_options(options: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> None:
    """Raises what `refine` would, before any work: it is asked about 2 x 2 pixels.

    Args:
        options: of `refine`, by their names.
        without: those that whoever asks has no use for, beside `return_probabilities`.
    """
    for name in (*without, "return_probabilities"):
        if name in options:
            raise TypeError(f"`{name}`: is no option here (it is one of `refine`)")
    asked = {name: value for name, value in options.items() if name != "image_range"}
    soft = options.get("kind", "auto") not in ("auto", "mask", "labels")
    refine(np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=np.float32 if soft else bool), **asked)
