"""The demo's photograph: Commodore Grace M. Hopper, by the US Navy, in the public domain."""

from __future__ import annotations

from typing import Any

import numpy as np

CREDIT = "Photo: US Navy, public domain (Commodore Grace M. Hopper)"


def photograph() -> np.ndarray:
    """(600, 512, 3) uint8 RGB, from the sample data of the installed matplotlib."""
    # the package first and whole: two threads that import it and a part of it at once get halves
    import matplotlib
    from PIL import Image

    opened: Any = matplotlib.cbook.get_sample_data(
        "grace_hopper.jpg"
    )  # a file, and an array only of a .npy
    with opened as file, Image.open(file) as image:
        return np.array(image.convert("RGB"))
