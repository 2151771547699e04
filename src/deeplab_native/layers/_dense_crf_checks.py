"""What may be given to the layer `DenseCRF`, checked by name before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .._integers import integer
from .._native import check_tensor, has_values, widen

COMPATIBILITIES = ("potts", "vector", "matrix")
NAMES = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma")
"""Of `CRFParams`, in its order."""


def check_kind(compatibility: str) -> str:
    """One of `COMPATIBILITIES`."""
    if not isinstance(compatibility, str) or compatibility not in COMPATIBILITIES:
        known = ", ".join(COMPATIBILITIES)
        raise ValueError(f"compatibility: expected one of {known}; got {compatibility!r}")
    return compatibility


def check_num_labels(num_labels: int | None, compatibility: str) -> int | None:
    if num_labels is None:
        if compatibility != "potts":
            raise ValueError(
                f"num_labels: expected how many labels compatibility={compatibility!r} has, "
                "got None"
            )
        return None
    return integer("num_labels", num_labels, least=1)


def check_trainable(trainable: Sequence[str] | None, compatibility: str) -> tuple[str, ...]:
    """In the order of `CRFParams`, each once."""
    known = (*NAMES, "compatibility") if compatibility == "matrix" else NAMES
    if trainable is None:
        return tuple(n for n in known if not n.startswith("sigma"))
    if isinstance(trainable, str) or not isinstance(trainable, Sequence):
        raise TypeError(f"trainable: expected a sequence of names, got {trainable!r}")
    for name in trainable:
        if name not in known:
            of = " (compatibility='matrix' has one)" if name == "compatibility" else ""
            raise ValueError(f"trainable: expected names of {', '.join(known)}; got {name!r}{of}")
    return tuple(n for n in known if n in trainable)


def as_scores(name: str, value: object) -> torch.Tensor:
    """In float32 or float64; raises for what scores cannot be, by this name."""
    layout = "(L, H, W) or (B, L, H, W), or of volumes (B, L, D, H, W)"
    scores: torch.Tensor = widen(check_tensor(name, value, ndim=(3, 4, 5), layout=layout))
    if scores.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: expected a float dtype, got {scores.dtype}")
    # false for NaN, too
    if has_values(scores) and not bool((scores < math.inf).all()):
        raise ValueError(f"{name}: expected finite values or -inf, got NaN or +inf")
    return scores
