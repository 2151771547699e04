"""Parameters of the two pairwise kernels, and the values that were published for them.

They are the argument of `dense_crf`, so they lie with the op; `crf` gives them to users.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .._native import has_values

Sigma = float | Sequence[float] | torch.Tensor


@dataclass(frozen=True)
class CRFParams:
    """Equation (3) of the DeepLab paper (arXiv 1606.00915), in its symbols.

          w1 exp(-|p_i - p_j|^2 / 2 sigma_alpha^2 - |I_i - I_j|^2 / 2 sigma_beta^2)
        + w2 exp(-|p_i - p_j|^2 / 2 sigma_gamma^2)

    `sigma_alpha` and `sigma_gamma` are in pixels, or in the unit of `dense_crf`'s `spacing`; either
    may be a sequence with one for each axis in the tensor's order, (y, x), of a volume (z, y, x).
    `sigma_beta` is in levels of an image of 0..255, or a sequence with one for each channel. `w1`
    and `w2` multiply the normalised kernels.

    All may be tensors that require gradients: a weight a 0-dimensional one, or in its place the
    compatibility of the labels, a vector (L,) or a matrix (L, L) as `PairwiseKernel` has it, whose
    sign is the other one (3 is the vector -3 and the matrix -3 I); a sigma a 0-dimensional one, or
    a vector with one for each axis or channel.

    The defaults are "voc-resnet101" of `PRESETS`: what the authors published for the ResNet-101 of
    the DeepLab v2 paper, its best net. The paper itself prints no numbers but for its search, which
    held w2 = 3 and sigma_gamma = 3; their page has these, and `refine` and the command line use
    them, too. Good values depend on the scores: `search_crf` finds them.

    Raises ValueError for a weight that is not finite or a sigma that is not positive and finite; of
    tensors when they are used, where it is known without a wait (docs/crf_gradients.md).
    """

    w1: float | torch.Tensor = 4
    sigma_alpha: Sigma = 67
    sigma_beta: Sigma = 3
    w2: float | torch.Tensor = 3
    sigma_gamma: Sigma = 1

    def __post_init__(self) -> None:
        for name in ("sigma_alpha", "sigma_beta", "sigma_gamma"):
            value = getattr(self, name)
            if isinstance(value, torch.Tensor):
                _check_kind(name, value, 1, "with one for each axis or channel")
            elif isinstance(value, (list, tuple)):
                if not value:
                    raise ValueError(f"{name}: expected a positive number or several, got none")
                for i, one in enumerate(value):
                    _check_sigma(f"{name}[{i}]", one)
                object.__setattr__(self, name, tuple(value))  # can be hashed
            else:
                _check_sigma(name, value)
        for name in ("w1", "w2"):
            value = getattr(self, name)
            if isinstance(value, torch.Tensor):
                _check_kind(name, value, 2, "(L,) or (L, L)")
            else:
                finite_number(name, value)

    @classmethod
    def preset(cls, name: str) -> CRFParams:
        """One of `PRESETS` by its name; raises ValueError that lists the names."""
        if name not in PRESETS:
            close = difflib.get_close_matches(str(name), PRESETS, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}; got {name!r}{hint}")
        return PRESETS[name]


def check_params(params: CRFParams) -> None:
    """Raises TypeError for what is no CRFParams."""
    if not isinstance(params, CRFParams):
        raise TypeError(f"params: expected CRFParams, got {type(params).__name__}")


def sigmas_of(
    params: CRFParams, image_shape: Sequence[int], spacing: Spacing | None = None
) -> list[float]:
    """Of an image (B, C, H, W) or (B, C, D, H, W), in pixels: as the ops take them.

    sigma_gamma of each axis, sigma_alpha of each axis, sigma_beta of each channel. ValueError where
    a sequence has not one for each.
    """
    _, channels, *space = image_shape
    axes = len(space)
    steps = [1.0] * axes if spacing is None else check_spacing(spacing, axes)
    along = "(y, x)" if axes == 2 else "(z, y, x)"
    gamma = _each("params.sigma_gamma", params.sigma_gamma, axes, f"axes {along}")
    alpha = _each("params.sigma_alpha", params.sigma_alpha, axes, f"axes {along}")
    beta = _each("params.sigma_beta", params.sigma_beta, channels, "channels of the image")
    in_pixels = [sigma / step for sigma, step in zip(gamma + alpha, steps * 2, strict=True)]
    for sigma in in_pixels:
        if not _LEAST_SIGMA <= sigma <= 1 / _LEAST_SIGMA:
            raise ValueError(f"spacing: {spacing} makes a sigma of {sigma:g} pixels of {params}")
    return in_pixels + beta


Spacing = float | Sequence[float]


def check_spacing(spacing: Spacing, axes: int) -> list[float]:
    """Of each axis; raises for what is not positive and finite, or not one for each axis."""
    expected = "expected a positive number" if axes == 2 else "expected a positive number, in mm"
    each = _each("spacing", spacing, axes, "axes")
    for step in each:
        if not _LEAST_SIGMA <= step <= 1 / _LEAST_SIGMA:  # also for NaN
            raise ValueError(f"spacing: {expected} or one for each axis, got {spacing}")
    return each


def values_of(name: str, sigma: torch.Tensor) -> float | list[float] | None:
    """The numbers of a tensor, checked; None where they cannot be had without a wait."""
    if not _is_readable(sigma):
        return None
    value: float | list[float] = sigma.detach().tolist()
    for i, one in enumerate(value if isinstance(value, list) else [value]):
        _check_sigma(f"{name}[{i}]" if isinstance(value, list) else name, one)
    return value


def sigma_tensors(name: str, sigma: Sigma, count: int, of: str) -> list[float | torch.Tensor]:
    """One for each axis or channel: of a tensor with its gradient, checked where it can be read."""
    if not isinstance(sigma, torch.Tensor):
        return list(_each(name, sigma, count, of))
    values_of(name, sigma)
    if sigma.ndim == 1 and sigma.shape[0] != count:
        raise ValueError(
            f"{name}: expected a number or one for each of the {count} {of}, got {sigma.shape[0]}"
        )
    return list(sigma.unbind()) if sigma.ndim == 1 else [sigma] * count


def _is_readable(tensor: torch.Tensor) -> bool:
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and has_values(tensor)


def _check_kind(name: str, tensor: torch.Tensor, most: int, otherwise: str) -> None:
    if tensor.ndim > most or not tensor.is_floating_point():
        raise ValueError(
            f"{name}: expected a number or a 0-dimensional floating point tensor, or one "
            f"{otherwise}, got {tensor.dtype} of shape {tuple(tensor.shape)}"
        )


def _each(name: str, value: Sigma, count: int, of: str) -> list[float]:
    if isinstance(value, torch.Tensor):
        numbers_ = values_of(name, value)
        if numbers_ is None:
            raise TypeError(
                f"{name}: expected numbers, got a tensor on {value.device} whose values cannot be "
                "read here; dense_crf takes it with scale=1"
            )
        value = numbers_
    if not isinstance(value, (list, tuple)):
        return [_number(name, value)] * count
    if len(value) != count:
        raise ValueError(
            f"{name}: expected a number or one for each of the {count} {of}, got {len(value)}"
        )
    return [_number(f"{name}[{i}]", one) for i, one in enumerate(value)]


_LEAST_SIGMA = 1e-30  # features are divided in float32


def _check_sigma(name: str, value: object) -> None:
    number = _number(name, value)
    if not _LEAST_SIGMA <= number <= 1 / _LEAST_SIGMA:  # also for NaN
        raise ValueError(f"{name}: expected a positive number, got {number}")


def positive_numbers(name: str, value: Sigma, count: int, of: str) -> list[float]:
    """A sigma's, one for each of so many axes or channels, which `of` names; raises for others.

    Tensors are refused: what asks for numbers has no gradient for them.
    """
    if isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: expected a number or several, got a tensor (no gradient of it)")
    several = isinstance(value, (list, tuple))
    each = _each(name, value, count, of)
    for i, one in enumerate(each):
        _check_sigma(f"{name}[{i}]" if several else name, one)
    return each


def finite_number(name: str, value: object) -> float:
    """Raises where it is none."""
    number = _number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return number


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    return float(value)


PRESETS: dict[str, CRFParams] = {
    # the values of the authors' project page for the two released DeepLab v2 models
    "voc-resnet101": CRFParams(),
    "voc-vgg16": CRFParams(4, 65, 3, 2, 2),
    # DeepLab v1, from the authors' evaluation scripts (SetupEnv.m). Their names there are
    # 20M_largewin3, 125M, vgg128_noup ("not optimised well") and largewin; that the second and the
    # last are the 7x7 and the 4x4 rate 8 nets is inferred.
    "voc-v1-largefov": CRFParams(4, 121, 5, 3, 3),
    "voc-v1-7x7": CRFParams(4, 72, 5, 3, 3),
    "voc-v1-4x4": CRFParams(5, 50, 10, 3, 3),
    "voc-v1-4x4-r8": CRFParams(4, 56, 4, 3, 3),
    # the default of the authors' run_densecrf.sh
    "densecrf-script": CRFParams(4, 49, 5, 3, 3),
    # the example of pydensecrf
    "pydensecrf": CRFParams(10, 80, 13, 3, 3),
}
"""Published parameters by name."""
