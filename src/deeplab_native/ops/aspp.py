"""Atrous spatial pyramid pooling: the sum of atrous convolutions over one input, as one product.

Source: Chen et al. 2017 (DeepLab, TPAMI), section 3.2 and Figure 4; the head of the authors'
ResNet-101. The product and the kernels around it are in `_aspp_pack` and `_aspp_taps`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._native import check_same_device, check_tensor, pair
from ._aspp_pack import pack_taps, padded_filters, sum_biases
from ._aspp_panels import aspp_branches, takes_panels
from ._aspp_taps import aspp_taps
from .atrous_conv import _computing_dtype
from .atrous_im2col import FLOATS, sum_dtype

MAX_TAPS = 256  # kMaxAsppTaps of csrc/ops/aspp.h

Pair = tuple[int, int]


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
        (B, O, H, W), the dtype of input, channels_last where the input is.

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
    check_tensor("input", input, ndim=4, dtypes=FLOATS, layout="(B, C, H, W)")
    if min(input.shape[2:]) < 1:
        raise ValueError(f"input: expected at least one pixel, got shape {tuple(input.shape)}")
    weights, biases = _as_branches(weights, biases, rates)
    pairs = [pair(f"rates[{i}]", rate, least=1) for i, rate in enumerate(rates)]
    _check_shapes(input, weights, biases)
    dtype = _check_dtypes(input, weights, biases)

    kernels = [(weight.shape[2], weight.shape[3]) for weight in weights]
    index, offsets = merge_taps(kernels, pairs, (input.shape[2], input.shape[3]))
    if len(offsets) > MAX_TAPS:
        raise ValueError(
            f"weights: expected at most {MAX_TAPS} taps at different offsets, got {len(offsets)}; "
            "add up several calls"
        )
    flat = [d for offset in offsets for d in offset]
    present = [bias for bias in biases if bias is not None]
    bias = sum_biases(present, sum_dtype(dtype)) if present else None
    if takes_panels(input, dtype):
        return aspp_branches(input.to(dtype), [w.to(dtype) for w in weights], bias, index, flat)
    filters = weights[0].shape[0]
    taps = pack_taps(weights, index, len(offsets), padded_filters(input, filters, dtype), dtype)
    return aspp_taps(input.to(dtype), taps, bias, flat, filters)


def merge_taps(
    kernels: Sequence[Pair], rates: Sequence[Pair], size: Pair
) -> tuple[list[int], list[Pair]]:
    """(index, offsets): the offset of every tap within a map of this size, each once.

    index: the position in `offsets` of each filter tap, branch after branch, rows of the kernel
    first; -1 for those that reach only padding.
    """
    index: list[int] = []
    position: dict[Pair, int] = {}
    for kernel, rate in zip(kernels, rates, strict=True):
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                dy, dx = (i - kernel[0] // 2) * rate[0], (j - kernel[1] // 2) * rate[1]
                inside = abs(dy) < size[0] and abs(dx) < size[1]
                index.append(position.setdefault((dy, dx), len(position)) if inside else -1)
    return index, list(position)


def _as_branches(weights, biases, rates) -> tuple[list, list]:
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


def _check_shapes(input, weights, biases) -> None:
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


def _check_dtypes(input, weights, biases) -> torch.dtype:
    """The dtype to compute in; raises where tensors differ in dtype or device."""
    tensors = {"input": input}
    tensors |= {f"weights[{i}]": weight for i, weight in enumerate(weights)}
    tensors |= {f"biases[{i}]": bias for i, bias in enumerate(biases) if bias is not None}
    check_same_device(**tensors)
    dtypes = {name: _computing_dtype(tensor) for name, tensor in tensors.items()}
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"expected input, weights and biases of one dtype, got {found}")
    return dtypes["input"]
