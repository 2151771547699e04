"""Atrous spatial pyramid pooling: the sum of atrous convolutions over one input, as one product.

Source: Chen et al. 2017 (DeepLab, TPAMI), section 3.2 and Figure 4; the head of the authors'
ResNet-101. `_aspp_branches` is its op.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .._integers import LARGEST_INT, pair
from .._native import call_op, check_same_device, check_tensor
from ._aspp_branches import aspp_branches
from ._conv_checks import computing_dtype
from .atrous_im2col import FLOATS


def aspp(
    input: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None] | None,
    rates: Sequence[int | Sequence[int]],
) -> torch.Tensor:
    """Sum of atrous convolutions of one input, each with padding that keeps the size of the map.

    One matrix product takes the input to every filter tap of every branch, and a native kernel
    sums the taps, each shifted by its offset. Taps at the same offset (the centres of all
    branches) are merged before the product, taps that reach only padding are left out of it.

    Args:
        input: (B, C, H, W), float32, float64, bfloat16 or float16, any strides; channels_last
            needs one product for many images.
        weights: of each branch (O, C, kh, kw), dtype of input (any under autocast, which converts
            all); kh and kw are odd and may differ between branches.
        biases: of each branch (O,) or None; None for no bias at all.
        rates: of each branch, one integer or (vertical, horizontal), in pixels of the map; its
            padding is rate * (k - 1) / 2, its stride 1.

    Returns:
        (B, O, H, W), the dtype of input, channels_last where the input is. NaN and infinities go
        where separate convolutions take them; in a gradient of weights to all taps of the channel.

    Precision: float32 and float64 differ from separate convolutions by rounding. With the 2-byte
    types merged weights and each tap's product are rounded to the type, their sum is float32 and
    rounded once; rounding errors add up to about that of one more rounding of the result. On CUDA
    float32 is multiplied as torch multiplies matrices (`torch.set_float32_matmul_precision`), not
    as it convolves, and the weight gradient of 2-byte types is rounded once for a group of images.

    Raises:
        TypeError: an argument of the wrong type; tensors of different dtypes.
        ValueError: shapes that do not fit; no branch, or not as many rates or biases as weights;
            an even kernel size; a rate below 1; an empty map; tensors on different devices; more
            than 256 taps at different offsets within the map.
        RuntimeError: CUDA tensors, and a deeplab_native without CUDA.

    Source: Chen et al. 2017, section 3.2. Differentiable any number of times.
    """
    weights, biases = _as_branches(weights, biases, rates)
    pairs = [
        (rate, rate)
        if type(rate) is int and 0 < rate <= LARGEST_INT
        else pair(f"rates[{i}]", rate, least=1)
        for i, rate in enumerate(rates)
    ]
    if _fit(input, weights, biases):
        dtype = computing_dtype(input)
    else:
        dtype = _check(input, weights, biases)
    present = [bias for bias in biases if bias is not None]
    input = input.to(dtype)
    flat = [d for both in pairs for d in both]
    return call_op(aspp_branches, (input, *weights, *present), input, weights, present, flat)


def _as_branches(
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None] | None,
    rates: Sequence[int | Sequence[int]],
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    for name, value in {"weights": weights, "biases": biases, "rates": rates}.items():
        if isinstance(value, (list, tuple)) or (name == "biases" and value is None):
            continue
        raise TypeError(f"{name}: expected a list or tuple, got {type(value).__name__}")
    if not weights:
        raise ValueError("weights: expected at least one branch, got none")
    for name, value in {"biases": biases, "rates": rates}.items():
        if value is not None and len(value) != len(weights):
            raise ValueError(
                f"{name}: expected one for each of {len(weights)} weights, got {len(value)}"
            )
    return list(weights), [None] * len(weights) if biases is None else list(biases)


def _fit(
    input: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None]
) -> bool:
    """Whether all is right at a glance: `_check` takes its time, and says what is not."""
    if not isinstance(input, torch.Tensor) or input.ndim != 4 or input.dtype not in FLOATS:
        return False
    if input.layout != torch.strided:
        return False
    dtype, device, channels = input.dtype, input.device, input.shape[1]
    filters: Any = None  # of the first weight
    for weight, bias in zip(weights, biases, strict=True):
        if not isinstance(weight, torch.Tensor) or weight.ndim != 4:
            return False
        if weight.layout != torch.strided:
            return False
        shape = weight.shape
        filters = shape[0] if filters is None else filters
        same = weight.dtype == dtype and weight.device == device
        odd = shape[2] % 2 == 1 and shape[3] % 2 == 1
        if not (same and odd and shape[0] == filters and shape[1] == channels):
            return False
        if bias is None:
            continue
        if not isinstance(bias, torch.Tensor) or bias.dtype != dtype or bias.device != device:
            return False
        if bias.ndim != 1 or bias.shape[0] != filters:
            return False
    # not one min, which Dynamo before torch 2.7 does not trace of numbers and symbols
    least: int = min(input.shape[1:])
    return filters > 0 and least > 0


def _check(
    input: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None]
) -> torch.dtype:
    """The dtype to compute in; raises where something is not as it should be."""
    check_tensor("input", input, ndim=4, dtypes=FLOATS, layout="(B, C, H, W)")
    if min(input.shape[2:]) < 1:
        raise ValueError(f"input: expected at least one pixel, got shape {tuple(input.shape)}")
    _check_shapes(input, weights, biases)
    return _check_dtypes(input, weights, biases)


def _check_shapes(
    input: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None]
) -> None:
    filters = None
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        check_tensor(f"weights[{i}]", weight, ndim=4, dtypes=FLOATS, layout="(O, C, kh, kw)")
        shape = tuple(weight.shape)
        if min(shape) < 1:
            raise ValueError(f"weights[{i}]: expected no empty dimension, got shape {shape}")
        if shape[2] % 2 == 0 or shape[3] % 2 == 0:
            raise ValueError(f"weights[{i}]: expected odd kernel sizes, got shape {shape}")
        filters = shape[0] if filters is None else filters
        if shape[:2] != (filters, input.shape[1]):
            raise ValueError(
                f"weights[{i}]: expected {filters} filters, as weights[0] has, of "
                f"{input.shape[1]} channels, as input has, got shape {shape}"
            )
        if bias is None:
            continue
        check_tensor(f"biases[{i}]", bias, ndim=1, dtypes=FLOATS, layout="(O,)")
        if bias.shape[0] != filters:
            raise ValueError(
                f"biases[{i}]: expected shape ({filters},) for weight {shape}, "
                f"got {tuple(bias.shape)}"
            )


def _check_dtypes(
    input: torch.Tensor, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None]
) -> torch.dtype:
    """The dtype to compute in; raises where tensors differ in dtype or device."""
    tensors = {"input": input}
    # not |=, which Dynamo before torch 2.7 does not trace
    tensors.update({f"weights[{i}]": weight for i, weight in enumerate(weights)})
    tensors.update({f"biases[{i}]": b for i, b in enumerate(biases) if b is not None})
    check_same_device(**tensors)
    dtypes = {name: computing_dtype(tensor) for name, tensor in tensors.items()}
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"expected input, weights and biases of one dtype, got {found}")
    return dtypes["input"]
