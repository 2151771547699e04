"""Energies as objects, for `DenseCRF.setUnary`."""

from __future__ import annotations

import numpy as np

from ._checks import Floats, float_array


class Unary:
    """What ConstUnary and LogisticUnary have in common; it has no energies itself."""


class ConstUnary(Unary):
    """Energies u (L, N), copied."""

    def __init__(self, u: Floats) -> None:
        self.energies = float_array("u", u, 2, "(L, N)").copy("C")


class LogisticUnary(Unary):
    """Energies L @ f of the weights L (L, k) and the features f (k, N)."""

    def __init__(self, L: Floats, f: Floats) -> None:
        weights = float_array("L", L, 2, "(L, k)")
        self.energies = product("L", weights, "f", float_array("f", f, 2, "(k, N)"))


def product(left_name: str, left: Floats, right_name: str, right: Floats) -> Floats:
    """The product left @ right in float32; ValueError where the shapes do not fit."""
    if left.shape[1] != right.shape[0]:
        raise ValueError(
            f"{right_name}: bad shape, need ({left.shape[1]}, N) for {left_name} of {left.shape}, "
            f"got {right.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # setUnary looks for such values
        energies: Floats = np.matmul(left, right)
    return energies
