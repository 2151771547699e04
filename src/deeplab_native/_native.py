"""What every op needs around its native call: checks, threads, streams, registration.

An op is registered once, with `define_op`; its implementations get tensors whose dtype, shape and
device were already checked by the public function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch

from . import _C
from ._autograd import (
    Backward,
    SetupContext,
    Tangents,
    below_autograd,
    forward_mode,
    has_wrapper,
    register_autograd,
    transforms_active,
)
from ._batching import Rule, vmap_kernel
from ._fork import one_torch_thread_in_children

_R = TypeVar("_R")

NAMESPACE = "deeplab_native"

one_torch_thread_in_children()
_library = torch.library.Library(NAMESPACE, "DEF")

# Devices whose tensors go to the CUDA kernels; the tests add the CPU, to run the kernels by
# emulation, and register the CUDA implementations for it.
CUDA_DEVICES = {"cuda"}
CUDA_IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {}


def define_op(
    schema: str,
    *,
    cpu: Callable[..., _R],
    fake: Callable[..., _R],
    vmap: Rule,
    cuda: Callable[..., _R] | None = None,
    backward: Backward | None = None,
    setup_context: SetupContext | None = None,
    tangents: Tangents | None = None,
) -> Callable[..., _R]:
    """Registers `deeplab_native::<schema>` and returns the callable op.

    `fake` computes shapes and dtypes only. `backward(ctx, *grads)` and
    `setup_context(ctx, inputs, output)` are those of `torch.library.register_autograd`;
    `tangents(op, args, tangents)` is forward mode, and without it that is an error. `vmap` is a
    rule of `_batching`. So all that `torch.func` composes works, and a second derivative where the
    backward is made of ops that have one.
    Where there is no CUDA implementation, a CUDA tensor raises RuntimeError.
    """
    name = schema.partition("(")[0]
    # pt2_compliant_tag: the op has a fake and no hidden state, which opcheck proves in the tests
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, cpu, "CPU")
    _library.impl(name, cuda if cuda is not None and _C.has_cuda else _no_cuda(name), "CUDA")
    CUDA_IMPLEMENTATIONS[name] = _no_cuda(name) if cuda is None else cuda
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
    op = getattr(getattr(torch.ops, NAMESPACE), name).default
    if backward is not None:
        register_autograd(_library, op, backward, setup_context, tangents)
    torch.library.register_vmap(f"{NAMESPACE}::{name}", vmap_kernel(op, vmap), lib=_library)
    registered: Callable[..., _R] = op
    return registered


def _no_cuda(name: str) -> Callable[..., Any]:
    def raise_no_cuda(*args: Any) -> Any:
        why = "has no CUDA kernel yet" if _C.has_cuda else "was built without CUDA"
        raise RuntimeError(
            f"{name}: got a CUDA tensor, but this deeplab_native {why}; "
            "move the tensors to the CPU with .cpu()"
        )

    return raise_no_cuda


def call_op(op: Callable[..., _R], tensors: Iterable[torch.Tensor], *args: Any) -> _R:
    """op(*args), at once where none of the tensors among the arguments wants a gradient.

    Past the op's autograd kernel, as that goes on itself then, but only after all arguments went
    to Python and back: a tenth of the head's host time.
    """
    if torch.compiler.is_compiling() or transforms_active() or forward_mode():
        return op(*args)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return op(*args)
    with below_autograd():
        return op(*args)


def check_no_transform(name: str, instead: str, *tensors: torch.Tensor) -> None:
    """Raises where a tensor is one of a `torch.func` transform, which keeps no state of ours."""
    if transforms_active() and any(map(has_wrapper, tensors)):
        raise RuntimeError(
            f"{name}: keeps state, which torch.func (vmap, grad, jvp, ...) cannot transform; "
            f"use {instead}"
        )


def num_threads() -> int:
    """Threads for a CPU kernel: torch's own setting (`torch.set_num_threads`); 1 after a fork."""
    return torch.get_num_threads()


def on_cuda(tensor: torch.Tensor) -> bool:
    """Whether the CUDA kernels compute with this tensor."""
    return tensor.device.type in CUDA_DEVICES


def has_values(tensor: torch.Tensor) -> bool:
    """Whether values can be looked at, here and without a wait.

    Not where code is compiled or traced, within a transform of `torch.func` that the tensor belongs
    to, or on a CUDA device.
    """
    if torch.compiler.is_compiling():
        return False
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return tensor.device.type == "cpu" and not on_cuda(tensor) and not has_wrapper(tensor)


def has_kernels(tensor: torch.Tensor) -> bool:
    """Whether the tensor's device has kernels in this build, for ops with CPU and CUDA kernels."""
    return tensor.device.type == "cpu" or (tensor.device.type == "cuda" and _C.has_cuda)


def on_device_of(tensor: torch.Tensor) -> AbstractContextManager[Any]:
    """Within, the tensor's CUDA device is the current one."""
    return nullcontext() if tensor.device.type == "cpu" else torch.cuda.device(tensor.device)


# Of these device types `torch.is_autocast_enabled` must not be asked. It is what
# `torch.amp.is_autocast_available` says, which Dynamo cannot trace before torch 2.12.
_WITHOUT_AUTOCAST = ("meta", "lazy", "vulkan")


def autocasts(device: str) -> bool:
    """Whether autocast is on for a type of device; false where there is none."""
    return device not in _WITHOUT_AUTOCAST and torch.is_autocast_enabled(device)


# A stream's address by the device's number: what compiled models of torch call, too. A Stream
# object takes several times as long to make.
_raw_stream: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)


def call_cuda(kernel: str, tensor: torch.Tensor, *args: Any) -> Any:
    """`_C.kernel(*args, stream)` on the tensor's device, on the stream that is current there."""
    function = getattr(_C, kernel)
    device = tensor.device
    if device.type == "cpu":  # emulated
        return function(*args, 0)
    if device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            return function(*args, _current_stream(device))
    return function(*args, _current_stream(device))


def _current_stream(device: torch.device) -> int:
    if _raw_stream is None or device.index is None:
        address: int = torch.cuda.current_stream(device).cuda_stream
        return address
    return _raw_stream(device.index)


def convolutions_use_tf32() -> bool:
    """Whether torch multiplies float32 as tfloat32 in its own convolutions on CUDA."""
    conv = getattr(torch.backends.cudnn, "conv", None)  # of torch 2.9 and later
    precision = getattr(conv, "fp32_precision", None)
    return torch.backends.cudnn.allow_tf32 if precision is None else precision == "tf32"


def products_use_tf32() -> bool:
    """Whether torch multiplies float32 matrices as tfloat32 on CUDA."""
    precision = getattr(torch.backends.cuda.matmul, "fp32_precision", None)  # torch 2.9 and later
    allowed: bool = (
        torch.backends.cuda.matmul.allow_tf32 if precision is None else precision == "tf32"
    )
    return allowed


def check_tensor(
    name: str,
    value: object,
    *,
    ndim: int | Sequence[int] | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
    layout: str = "",
    arrays: str = "",
) -> torch.Tensor:
    """Raises TypeError or ValueError that names the argument.

    layout: like "(B, C, H, W)". arrays: what takes NumPy arrays in this one's place.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{name}: expected a torch.Tensor, got {type(value).__name__}"
            + _about_arrays(name, value, arrays)
        )
    if value.layout != torch.strided:
        raise TypeError(
            f"{name}: expected a dense tensor, got one of layout {value.layout} "
            f"({name}.to_dense() makes it one)"
        )
    allowed = (ndim,) if isinstance(ndim, int) else tuple(ndim or ())
    if allowed and value.ndim not in allowed:
        raise ValueError(
            f"{name}: expected {' or '.join(map(str, allowed))} dimensions"
            f"{' ' + layout if layout else ''}, got shape {tuple(value.shape)}"
        )
    if dtypes is not None and value.dtype not in dtypes:
        raise TypeError(
            f"{name}: expected dtype {' or '.join(str(d) for d in dtypes)}, got {value.dtype}"
            + _about_integers(name, value, dtypes)
        )
    return value


def check_readable(name: str, tensor: torch.Tensor) -> None:
    """Raises ValueError where its values cannot be looked at."""
    if tensor.is_meta or tensor.layout != torch.strided:
        raise ValueError(
            f"{name}: expected a dense tensor of values, got {tensor.layout} on {tensor.device}"
        )


def _about_arrays(name: str, value: object, instead: str) -> str:
    """The remedy for NumPy arrays, and for pictures of Pillow."""
    if not hasattr(type(value), "__array_interface__"):
        return ""
    what = name if isinstance(value, np.ndarray) else f"numpy.array({name})"
    also = f"; {instead} NumPy arrays" if instead else ""
    return f" (torch.from_numpy({what}) makes one{also})"


def _about_integers(name: str, tensor: torch.Tensor, dtypes: Sequence[torch.dtype]) -> str:
    if tensor.is_floating_point() or not all(d.is_floating_point for d in dtypes):
        return ""
    return f" ({name}.to({dtypes[0]}) makes it one)"


def widen(tensor: Any) -> Any:
    """float16 and bfloat16 in float32, as autocast has it: energies and their sums need that."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in (torch.bfloat16, torch.float16):
        return tensor
    return tensor.to(torch.float32)


def check_has_memory(name: str, tensor: torch.Tensor) -> None:
    """Raises ValueError for a tensor of a device that no native code reads, such as "meta"."""
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"{name}: expected a tensor on the CPU or a CUDA device, got it on {tensor.device}"
        )


def in_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, with the values that it shows where its address is.

    For native code that is called past the dispatcher, which does the same: some views only note
    that signs are to be changed (`z.conj().imag`), and zeros of forward mode have no memory.
    """
    tensor = tensor.resolve_neg()
    return tensor.clone() if tensor._is_zerotensor() else tensor


def memory_format(tensor: torch.Tensor) -> torch.memory_format:
    """The layout of (B, C, H, W) that an op keeps: contiguous where the strides leave it open.

    Strides of dimensions of size 1 are not looked at: compilers change them.
    """
    _, channels, height, width = tensor.shape
    if tensor.is_contiguous() or channels == 1 or tensor.stride(1) != 1:
        return torch.contiguous_format
    pixel = tensor.stride(3) if width > 1 else tensor.stride(2) if height > 1 else 0
    return torch.channels_last if pixel >= channels else torch.contiguous_format


def check_same_device(**tensors: torch.Tensor | None) -> None:
    """Raises ValueError where the named tensors lie on different devices."""
    present = {name: t.device for name, t in tensors.items() if t is not None}
    if len(set(present.values())) > 1:
        where = ", ".join(f"{name} on {device}" for name, device in present.items())
        raise ValueError(f"expected all tensors on one device, got {where}")
