"""Atrous convolution in one and two dimensions, by a choice of algorithms.

y[i] = sum over k of x[i + r k] w[k]: Chen et al. 2017 (DeepLab, TPAMI), section 3.1, equation (1).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
import torch.nn.functional as F

from .._integers import pair
from .._native import check_tensor
from . import _conv_choice as choice
from ._conv_checks import (
    NATIVE,
    both,
    check_algorithm,
    check_tensors_fit,
    computing_dtype,
    left_to_torch,
    may_see_padding_alone,
)
from ._conv_op import convolve
from .atrous_im2col import FLOATS, check_geometry, output_size


def atrous_conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    rate: int | Sequence[int] = 1,
    algorithm: str = "auto",
) -> torch.Tensor:
    """Two-dimensional atrous convolution: filter taps `rate` pixels apart.

    Args:
        input: (B, C, H, W), float32, float64, bfloat16 or float16, any strides.
        weight: (O, C, kh, kw), dtype of input (any under autocast, which converts both).
        bias: (O,) or None.
        stride, padding, rate: one integer or (vertical, horizontal), in pixels of the map.
        algorithm: how to compute it; the results agree up to rounding.
            "im2col": native atrous im2col in bands of at most 64 MiB, and one matrix product each.
            "space_to_batch": deinterlace into rate_h * rate_w maps, standard convolution,
            reinterlace; stride 1 only.
            "direct": the columns of im2col only in a GPU's shared memory, a tile at a time; CUDA
            only. float32 is multiplied as `torch.backends.cudnn.allow_tf32` says.
            "aten": `torch.nn.functional.conv2d`; on the CPU "im2col" where pixels may see padding
            alone, as with a padding above rate * ((kernel - 1) // 2): torch's may end the process.
            Not so compiled and exported: such a graph has torch's, whatever the padding.
            "auto": the fastest measured. On the CPU "aten", in the better memory layout. On CUDA
            what `benchmarks/bench_conv.py` found fastest for such a layer on such a device, and
            "aten" where nothing like it was measured: filters and channels within 1.25 times,
            height and width likewise, rate and batch within 1.5 times, everything else the same,
            and all that is so near agreeing. Compiled and exported it is "aten".
            The native three give the same bits, results and gradients, every time. On CUDA "aten",
            and what "auto" leaves to it, does so only where `torch.backends.cudnn.deterministic` or
            `torch.use_deterministic_algorithms` asks for it; "auto" then avoids the convolutions
            that this makes slow. With the latter, torch wants CUBLAS_WORKSPACE_CONFIG set for
            "im2col".

    Returns:
        (B, O, Ho, Wo), Ho = (H + 2 pad_h - rate_h (kh - 1) - 1) // stride_h + 1, the dtype of
        input; channels_last where the input is, and where "auto" finds that faster. NaN and
        infinities go where `torch.nn.functional.conv2d` takes them.

    Raises:
        TypeError: an argument of the wrong type; input, weight and bias of different dtypes.
        ValueError: shapes that do not fit; no output pixel; tensors on different devices; stride or
            rate below 1; padding below 0; an unknown algorithm, or one that lacks the stride.
        RuntimeError: an algorithm without a kernel on the device of the tensors.

    Source: Chen et al. 2017, section 3.1, equation (1) and both implementations described there.
    """
    if algorithm in ("auto", "aten") and left_to_torch(input, weight, bias, stride, padding, rate):
        chosen = algorithm
        if algorithm == "auto" and input.is_cuda:
            chosen = choice.algorithm_on_cuda(input, weight, *map(both, (stride, padding, rate)))
        if chosen not in NATIVE:
            # the checks below say better what is wrong; where they find nothing, torch may again
            with suppress(Exception):
                return _by_torch(input, weight, bias, stride, padding, rate, algorithm)
    check_tensor("input", input, ndim=4, dtypes=FLOATS, layout="(B, C, H, W)")
    check_tensor("weight", weight, ndim=4, dtypes=FLOATS, layout="(O, C, kh, kw)")
    check_tensors_fit(input, weight, bias)
    geometry = check_geometry(tuple(weight.shape[2:]), stride, padding, rate)
    _, stride, padding, rate = geometry
    output_size(input.shape, *geometry)
    check_algorithm(algorithm, stride)
    if algorithm == "auto":
        algorithm = choice.algorithm_on_cuda(input, weight, stride, padding, rate)
    if algorithm not in NATIVE:
        # in a graph sizes may be symbols, which a look at them would make constants
        is_torchs = input.is_cuda or choice.is_graph()
        if is_torchs or not may_see_padding_alone(weight.shape[2:], padding, rate):
            return _by_torch(input, weight, bias, stride, padding, rate, algorithm)
        algorithm = "im2col"
    dtype = computing_dtype(input)
    return convolve(
        input.to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        stride,
        padding,
        rate,
        algorithm,
    )


def atrous_conv1d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    rate: int = 1,
    algorithm: str = "auto",
) -> torch.Tensor:
    """One-dimensional atrous convolution, as `atrous_conv2d` of maps one pixel high.

    Args:
        input: (B, C, W), float32, float64, bfloat16 or float16, any strides.
        weight: (O, C, k), dtype of input (any under autocast, which converts both).
        bias: (O,) or None.
        stride, padding, rate: integers, in pixels of the map.
        algorithm: as for `atrous_conv2d`.

    Returns:
        (B, O, Wo), the dtype of input; Wo = (W + 2 padding - rate (k - 1) - 1) // stride + 1.

    Raises:
        TypeError, ValueError, RuntimeError: as `atrous_conv2d`.

    Source: Chen et al. 2017, section 3.1, equation (1).
    """
    check_tensor("input", input, ndim=3, dtypes=FLOATS, layout="(B, C, W)")
    check_tensor("weight", weight, ndim=3, dtypes=FLOATS, layout="(O, C, k)")
    for name, value in {"stride": stride, "padding": padding, "rate": rate}.items():
        if isinstance(value, Sequence):
            raise TypeError(f"{name}: expected one integer, got {value!r}")
    out = atrous_conv2d(
        input.unsqueeze(2),
        weight.unsqueeze(2),
        bias,
        stride=(1, pair("stride", stride, least=1)[1]),
        padding=(0, pair("padding", padding, least=0)[1]),
        rate=(1, pair("rate", rate, least=1)[1]),
        algorithm=algorithm,
    )
    return out.squeeze(2)


def _by_torch(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    rate: int | Sequence[int],
    algorithm: str,
) -> torch.Tensor:
    if algorithm == "auto":
        largest = rate if isinstance(rate, int) else max(rate)
        input = choice.in_better_layout(input, weight, largest)
    return F.conv2d(input, weight, bias, stride, padding, rate)
