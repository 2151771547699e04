"""What `atrous_conv2d` takes, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .._integers import LARGEST_INT
from .._native import autocasts, check_same_device, check_tensor, on_cuda
from .atrous_im2col import FLOATS

NATIVE = ("im2col", "space_to_batch", "direct")
ALGORITHMS = ("auto", *NATIVE, "aten")


def left_to_torch(input: object, weight: object, bias: object, *geometry: object) -> bool:
    """Whether torch's own checks are enough: it would take nothing of this for something else.

    The complete ones take twice the time of torch's convolution of a small map.
    """
    if torch.compiler.is_compiling():
        return False
    if not isinstance(input, torch.Tensor) or not isinstance(weight, torch.Tensor):
        return False
    shape, kernel, dtype, device = input.shape, weight.shape, input.dtype, input.device
    if len(shape) != 4 or len(kernel) != 4 or dtype not in FLOATS:
        return False
    for tensor in (weight,) if bias is None else (weight, bias):
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != dtype or tensor.device != device:
            return False
    for value in geometry:
        if type(value) is int:
            first = second = value
        elif type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int:
            first, second = value
        else:
            return False
        if first > LARGEST_INT or second > LARGEST_INT:  # torch's sums of them may wrap around
            return False
    if min(kernel) < 1 or min(shape[1:]) < 1:
        return False
    return input.is_cuda or not may_see_padding_alone(kernel[2:], *map(both, geometry[1:]))


def may_see_padding_alone(
    kernel: Sequence[int], padding: Sequence[int], rate: Sequence[int]
) -> bool:
    """Whether an output pixel of an atrous convolution can have all of its taps outside the map.

    None has where a tap in the middle is inside for all of them, or where taps without gaps reach
    the map. On a CPU with AMX oneDNN, by which torch 2.13 convolves, otherwise reads at address 0,
    of all dtypes but float64, and the process ends (its issue 5942): `conv2d` of a map of 1 x 1, a
    filter of 1 x 1, stride (1, 2), padding (2, 1), rate 7.
    """
    for axis, k in enumerate(kernel):
        r = rate[axis]
        if padding[axis] > (k - 1 if r == 1 else r * ((k - 1) // 2)):
            return True
    return False


def check_algorithm(algorithm: str, stride: Sequence[int]) -> None:
    """Raises ValueError for an unknown algorithm, or one that lacks this (vertical, horizontal)."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm: expected one of {ALGORITHMS}, got {algorithm!r}")
    if algorithm == "space_to_batch" and tuple(stride) != (1, 1):
        raise ValueError(f"stride: algorithm 'space_to_batch' needs 1, got {tuple(stride)}")


def both(value: Any) -> tuple[int, int]:
    """(vertical, horizontal) of what `left_to_torch` has seen: one integer or a tuple of two."""
    return value if isinstance(value, tuple) else (value, value)


def check_native(algorithm: str, stride: Sequence[int], input: torch.Tensor) -> None:
    """What the ops themselves take: `atrous_conv2d` leaves the other algorithms to torch."""
    check_algorithm(algorithm, stride)
    if algorithm not in NATIVE:
        raise ValueError(
            f"algorithm: expected one of {NATIVE}, got {algorithm!r}; "
            "deeplab_native.atrous_conv2d takes the others"
        )
    if algorithm == "direct" and input.device.type == "cpu" and not on_cuda(input):
        raise RuntimeError(
            "algorithm: 'direct' has no CPU kernel; take 'auto', 'im2col', 'space_to_batch' or "
            "'aten', or tensors on a CUDA device"
        )


def check_tensors_fit(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    tensors = {"input": input, "weight": weight}
    if bias is not None:
        tensors["bias"] = check_tensor("bias", bias, ndim=1, dtypes=FLOATS, layout="(O,)")
    check_same_device(**tensors)
    dtypes = {name: computing_dtype(tensor) for name, tensor in tensors.items()}
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"expected input, weight and bias of one dtype, got {found}")
    if weight.numel() == 0:
        raise ValueError(f"weight: expected no empty dimension, got shape {tuple(weight.shape)}")
    if input.shape[1] != weight.shape[1]:
        raise ValueError(
            f"weight: expected {input.shape[1]} input channels, as input has (groups are not "
            f"supported), got weight {tuple(weight.shape)} for input {tuple(input.shape)}"
        )
    if bias is not None and bias.shape[0] != weight.shape[0]:
        raise ValueError(
            f"bias: expected shape ({weight.shape[0]},) for weight {tuple(weight.shape)}, "
            f"got {tuple(bias.shape)}"
        )


def computing_dtype(tensor: torch.Tensor) -> torch.dtype:
    """The dtype autocast wants for a convolution of this tensor, or else the tensor's own."""
    device = tensor.device.type
    if autocasts(device) and tensor.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return tensor.dtype


def same_bits_asked() -> bool:
    """Whether torch was told to compute convolutions with the same bits every time."""
    return torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
