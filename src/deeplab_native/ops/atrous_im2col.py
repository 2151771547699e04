"""Atrous im2col and its adjoint: an atrous convolution as one matrix product.

Source: Chen et al. 2017 (DeepLab, TPAMI), section 3.1, the first implementation: the im2col
function samples the feature map `rate` pixels apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import _C
from .._autograd import linear
from .._batching import over_batch
from .._integers import LARGEST_INT, is_too_large, pair
from .._native import call_cuda, check_tensor, define_op, num_threads, on_cuda

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair, Pair]  # kernel, stride, padding, rate
Window = tuple[int, int, int, int]  # of the output: first and last row, first and last column

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def atrous_im2col(
    input: torch.Tensor,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    rate: int | Sequence[int] = 1,
) -> torch.Tensor:
    """The pixels under every tap of an atrous filter, as the columns of a matrix.

    Args:
        input: (B, C, H, W), float32, float64, bfloat16 or float16, on the CPU or a CUDA
            device, any strides.
        kernel_size, stride, padding, rate: one integer or (vertical, horizontal), in pixels.

    Returns:
        (B, C * kh * kw, Ho * Wo), Ho = (H + 2 pad_h - rate_h (kh - 1) - 1) // stride_h + 1, the
        dtype of input, in the layout of `torch.nn.functional.unfold`, whose `dilation` is the rate.
        Numbers are copied, also NaN, infinities and denormal ones.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: input not four-dimensional or without pixels; kernel_size, stride or rate below
            1; padding below 0; no output pixel.
        RuntimeError: input on a device without this kernel.

    Source: Chen et al. 2017, section 3.1. Differentiable; the gradient is `atrous_col2im`.
    """
    check_tensor("input", input, ndim=4, dtypes=FLOATS, layout="(B, C, H, W)")
    return _im2col_op(input, *check_geometry(kernel_size, stride, padding, rate))


def atrous_col2im(
    columns: torch.Tensor,
    size: Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    rate: int | Sequence[int] = 1,
) -> torch.Tensor:
    """The adjoint of `atrous_im2col`: every pixel sums its columns.

    Args:
        columns: (B, C * kh * kw, Ho * Wo), float32, float64, bfloat16 or float16, on the
            CPU or a CUDA device.
        size: (H, W) of the map that was taken apart.
        kernel_size, stride, padding, rate: as given to `atrous_im2col`.

    Returns:
        (B, C, H, W), the dtype of columns, as `torch.nn.functional.fold`. The sums run in the order
        of the taps, in float32 for the 2-byte types: the same bits for any number of threads, and
        on every device. NaN and infinities are added like any number.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: columns not three-dimensional, or of a shape that does not follow from the
            other arguments; kernel_size, stride, rate or size below 1; padding below 0.
        RuntimeError: columns on a device without this kernel.

    Source: Chen et al. 2017, section 3.1. Differentiable; the gradient is `atrous_im2col`.
    """
    check_tensor("columns", columns, ndim=3, dtypes=FLOATS, layout="(B, C * kh * kw, Ho * Wo)")
    geometry = check_geometry(kernel_size, stride, padding, rate)
    return _col2im_op(columns, pair("size", size, least=1), *geometry)


def check_geometry(
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    rate: int | Sequence[int],
) -> Geometry:
    """The four as pairs; raises TypeError or ValueError naming the one that is wrong."""
    return (
        pair("kernel_size", kernel_size, least=1),
        pair("stride", stride, least=1),
        pair("padding", padding, least=0),
        pair("rate", rate, least=1),
    )


def output_size(
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    rate: Sequence[int],
) -> Pair:
    """(Ho, Wo) of a convolution over a map of shape (B, C, H, W); ValueError where it is empty."""
    if min(shape[1:]) < 1:
        raise ValueError(f"input: expected at least one channel and pixel, got {tuple(shape)}")
    height, width = (
        (n + 2 * p - r * (k - 1) - 1) // s + 1
        for n, k, s, p, r in zip(shape[2:], kernel, stride, padding, rate, strict=True)
    )
    if height < 1 or width < 1:
        raise ValueError(
            f"input: height and width {tuple(shape[2:])} with padding {padding} are smaller than "
            f"the field of view of kernel_size {kernel} at rate {rate}: no output pixel is left"
        )
    if is_too_large(height) or is_too_large(width):
        raise ValueError(
            f"padding: expected one that leaves at most {LARGEST_INT} output pixels in a row, got "
            f"{padding}: {height} x {width} pixels"
        )
    return height, width


def _map_shape(
    columns: torch.Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    rate: Sequence[int],
) -> tuple[int, int, int, int]:
    """(B, C, H, W) of the map that these columns came from; ValueError where there is none."""
    taps = kernel[0] * kernel[1]
    channels = columns.shape[1] // taps
    if channels == 0 or columns.shape[1] % taps:
        raise ValueError(
            f"columns: expected a positive multiple of kernel_size {kernel[0]} x {kernel[1]} = "
            f"{taps} rows, got {columns.shape[1]}"
        )
    shape = columns.shape[0], channels, size[0], size[1]
    height, width = output_size(shape, kernel, stride, padding, rate)
    if columns.shape[2] != height * width:
        raise ValueError(
            f"columns: expected {height} x {width} = {height * width} columns for size {size}, "
            f"got {columns.shape[2]}"
        )
    return shape


def fill_columns(
    map: torch.Tensor, columns: torch.Tensor, geometry: Sequence[Sequence[int]], window: Window
) -> None:
    """im2col of the output pixels in `window` of map (B, C, H, W) into columns, contiguous."""
    where = map.data_ptr(), columns.data_ptr(), tuple(map.shape), map.stride()
    _call("atrous_im2col", map, *where, *geometry, window, map.element_size())


def add_columns(
    columns: torch.Tensor, map: torch.Tensor, geometry: Sequence[Sequence[int]], window: Window
) -> None:
    """Adds the columns of the output pixels in `window` to map, of `sum_dtype(columns.dtype)`."""
    where = columns.data_ptr(), map.data_ptr(), tuple(map.shape), map.stride()
    dtype = str(columns.dtype).removeprefix("torch.")
    _call("atrous_col2im", map, *where, *geometry, window, dtype)


def _call(name: str, map: torch.Tensor, *args: Any) -> None:
    """Calls the kernel of the device."""
    if on_cuda(map):
        call_cuda(f"{name}_cuda", map, *args)
    else:
        getattr(_C, f"{name}_cpu")(*args, num_threads())


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which values of `dtype` are summed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _im2col_fake(input: torch.Tensor, *geometry: Sequence[int]) -> torch.Tensor:
    height, width = output_size(input.shape, *geometry)
    kernel = geometry[0]
    return input.new_empty((input.shape[0], input.shape[1] * kernel[0] * kernel[1], height * width))


def _im2col(input: torch.Tensor, *geometry: Sequence[int]) -> torch.Tensor:
    columns = _im2col_fake(input, *geometry)
    height, width = output_size(input.shape, *geometry)
    fill_columns(input, columns, geometry, (0, height, 0, width))
    return columns


def _col2im_fake(
    columns: torch.Tensor, size: Sequence[int], *geometry: Sequence[int]
) -> torch.Tensor:
    return columns.new_empty(_map_shape(columns, size, *geometry))


def _col2im(columns: torch.Tensor, size: Sequence[int], *geometry: Sequence[int]) -> torch.Tensor:
    shape = _map_shape(columns, size, *geometry)
    map = torch.zeros(shape, dtype=sum_dtype(columns.dtype), device=columns.device)
    height, width = output_size(shape, *geometry)
    add_columns(columns.contiguous(), map, geometry, (0, height, 0, width))
    return map.to(columns.dtype)


def _save_size(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, *ctx.geometry = inputs
    ctx.size = input.shape[2:]


def _im2col_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    return _col2im_op(grad, ctx.size, *ctx.geometry), None, None, None, None


def _save_geometry(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, _, *ctx.geometry = inputs


def _col2im_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    return _im2col_op(grad, *ctx.geometry), None, None, None, None, None


_im2col_op = define_op(
    "atrous_im2col(Tensor input, int[2] kernel_size, int[2] stride, int[2] padding, int[2] rate)"
    " -> Tensor",
    cpu=_im2col,
    cuda=_im2col,
    fake=_im2col_fake,
    vmap=over_batch(0),
    tangents=linear,
    backward=_im2col_backward,
    setup_context=_save_size,
)
_col2im_op = define_op(
    "atrous_col2im(Tensor columns, SymInt[2] size, int[2] kernel_size, int[2] stride,"
    " int[2] padding, int[2] rate) -> Tensor",
    cpu=_col2im,
    cuda=_col2im,
    fake=_col2im_fake,
    vmap=over_batch(0),
    tangents=linear,
    backward=_col2im_backward,
    setup_context=_save_geometry,
)
