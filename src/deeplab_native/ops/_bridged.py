"""`lattice="bridged"`: a lattice that is closer to the Gaussian, see csrc/ops/bridged_lattice.h."""

from __future__ import annotations

import torch

LATTICES = ("standard", "bridged")
"""Which vertices a lattice has: those of pydensecrf, or also some that no point touches."""

MOST_DIMENSIONS = 16  # kPackedDim of permutohedral.h


def check_lattice_kind(lattice: str, algorithm: str = "lattice") -> bool:
    """Whether it is bridged, which the exact algorithm, without a lattice, cannot be."""
    if not isinstance(lattice, str) or lattice not in LATTICES:
        raise ValueError(f"lattice: expected one of {', '.join(LATTICES)}; got {lattice!r}")
    if lattice == "bridged" and algorithm == "exact":
        raise ValueError("lattice: expected 'standard' with algorithm='exact', got 'bridged'")
    return lattice == "bridged"


def check_bridged(name: str, d: int, *, bridged: bool) -> None:
    """ValueError where features of d dimensions cannot have such a lattice."""
    if bridged and d > MOST_DIMENSIONS:
        raise ValueError(
            f"{name}: expected at most {MOST_DIMENSIONS} dimensions for lattice='bridged', got {d}"
        )


def check_bridged_image(image: torch.Tensor, *, bridged: bool) -> None:
    """The same for an image (B, C, H, W), or a volume."""
    check_bridged("image: axes and channels", image.ndim - 2 + image.shape[1], bridged=bridged)


def bridged_room(d: int) -> int:
    """For how many times the vertices of a standard lattice one on a CUDA device has memory.

    Each of the d + 1 vertices of a simplex has two neighbours among the others, so of its 2 (d + 1)
    neighbours at most 2 d are missing; a bridge takes two of those, or more. So there are at most
    d + 1 times as many vertices, and all that points can touch at the most are d + 1 for each. Of
    random points there were 2.1 times that most at d = 2, 2.6 at d = 5 and 3.2 at d = 6; of photos
    at d = 5, whose pixels share vertices, 1.4.
    """
    return min(d + 1, 3 if d <= 5 else 1 + (d + 1) // 2)
