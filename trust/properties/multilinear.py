"""Results and gradients of ops that are linear in each tensor, and how far rounding may take them.

A sum of n products, in whatever order, is off by at most n eps times the sum of their absolute
values (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .contract import Expected, leaves


def wanting_gradients(arguments: dict[str, Any]) -> list[torch.Tensor]:
    return [
        t
        for t in leaves(arguments)
        if isinstance(t, torch.Tensor) and t.requires_grad and t.is_leaf
    ]


def differentiated(op: Callable[..., Any]) -> Callable[..., Any]:
    """The op's result and, where tensors want one, the gradients of its sum."""

    def call(**arguments: Any) -> Any:
        result = op(**arguments)
        wanting = wanting_gradients(arguments)
        if not wanting:
            return result
        assert result.requires_grad, "no gradient, though a tensor wants one"
        # the gradient of a sum has strides of 0
        return result, torch.autograd.grad(result.sum(), wanting, allow_unused=True)

    return call


def wide(tensor: Any, name: str = "tensor") -> Any:
    """In float64 on the CPU, of floating point alone."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is no tensor")
    if not tensor.is_floating_point() or tensor.layout != torch.strided:
        raise TypeError(f"{name} is of {tensor.dtype}")
    return (
        torch.zeros(tensor.shape).double() if tensor.is_meta else tensor.detach().clone().double()
    )


def of(reference: Callable[..., Any], tensors: list[torch.Tensor], terms: int) -> list[Expected]:
    """What `reference`, of these tensors in float64, and autograd say of `differentiated`."""
    dtype = tensors[0].dtype
    if len({t.dtype for t in tensors}) > 1:
        raise TypeError("different dtypes")
    info = torch.finfo(dtype)
    wanting = [t.requires_grad for t in tensors]
    finite = all(bool(wide(t).isfinite().all()) for t in tensors)
    values = _with_gradients(reference, [wide(t) for t in tensors], wanting)
    sums = _with_gradients(reference, [wide(t).abs() for t in tensors], wanting)
    found = []
    for i, (value, total) in enumerate(zip(values, sums, strict=True)):
        n = (terms if i == 0 else terms * max(1, values[0].numel())) + 16
        bound = n * info.eps * total + n * info.tiny
        bound[total > info.max / 4] = torch.inf
        # zeros times what is not finite: of pixels beside the map, too, and in torch's convolutions
        # of 16 bits on a CPU of those that a stride leaves out
        if not finite and (i > 0 or info.bits < 32):
            bound[...] = torch.inf
        found.append(Expected(value, bound))
    return found


def _with_gradients(
    reference: Callable[..., torch.Tensor], tensors: list[torch.Tensor], wanting: list[bool]
) -> list[torch.Tensor]:
    leaves_ = [t.requires_grad_(want) for t, want in zip(tensors, wanting, strict=True)]
    result = reference(*leaves_)
    if not any(wanting):
        return [result]
    some = [t for t in leaves_ if t.requires_grad]
    if not result.requires_grad:
        return [result.detach(), *(torch.zeros_like(t) for t in some)]
    found = torch.autograd.grad(result.sum(), some, materialize_grads=True)
    return [result.detach(), *found]
