"""What `torch.vmap` does with an op: rules that give a native call the whole batch.

A rule `rule(op, size, dims, *args)` gets the arguments with `size` samples along the dimension that
`dims` has at the same place (None: all samples share the tensor; lists as the arguments have them),
and returns the results and their dimensions alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

Rule = Callable[..., tuple[Any, Any]]


def vmap_kernel(op: torch._ops.OpOverload, rule: Rule) -> Callable[..., tuple[Any, Any]]:
    """A rule as `torch.library.register_vmap` takes it."""

    def kernel(info: Any, dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        if info.batch_size == 0:
            return _of_no_samples(op, dims, args), 0
        return rule(op, info.batch_size, dims, *args)

    return kernel


def over_batch(*positions: int) -> Rule:
    """For ops whose tensors, at these positions, all begin with the batch, as do the results.

    Sample and batch become one dimension, so that the op is called once. A tensor that the samples
    share is repeated for each.
    """

    def rule(op: Callable[..., Any], size: int, dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        merged = [
            merge(a, d, size) if i in positions else a
            for i, (a, d) in enumerate(zip(args, dims, strict=True))
        ]
        return pytree.tree_map(lambda result: split(result, size), op(*merged)), 0

    return rule


def loop(op: Callable[..., Any], size: int, dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
    """The rule of what is no batch to the op: one call for each sample."""
    outputs = [op(*sample(args, dims, i)) for i in range(size)]
    return pytree.tree_map(lambda *results: torch.stack(results), *outputs), 0


def sample(args: Sequence[Any], dims: Sequence[Any], i: int) -> list[Any]:
    """The arguments of one sample."""
    return [
        sample(a, d, i) if isinstance(d, (list, tuple)) else a if d is None else a.select(d, i)
        for a, d in zip(args, dims, strict=True)
    ]


def any_batched(dims: Any) -> bool:
    """Whether a tensor, or any of a list of them, has samples."""
    return any(map(any_batched, dims)) if isinstance(dims, (list, tuple)) else dims is not None


def front(tensor: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """(size, ...): the samples first; what they share is not copied."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def merge(tensor: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """(size * n, ...) of a tensor whose samples are (n, ...)."""
    first = front(tensor, dim, size)
    return first.reshape(size * first.shape[1], *first.shape[2:])


def split(tensor: torch.Tensor, size: int, dim: int = 0) -> torch.Tensor:
    """(..., size, n, ...) of (..., size * n, ...), the other way round from `merge`."""
    both: torch.Tensor = tensor.unflatten(dim, (size, tensor.shape[dim] // size))
    return both


def only_shape(tensor: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """As `merge`, of the same layout, where nothing reads the values; without memory of its own."""
    one = tensor if dim is None else tensor.select(dim, 0)
    return one[:1].expand(size * one.shape[0], *one.shape[1:])


def _of_no_samples(op: Callable[..., Any], dims: Sequence[Any], args: Sequence[Any]) -> Any:
    """Empty results, of the shapes that the op has for one sample."""

    def on_meta(arg: Any, dim: Any) -> Any:
        if isinstance(dim, (list, tuple)):
            return [on_meta(a, d) for a, d in zip(arg, dim, strict=True)]
        if not isinstance(arg, torch.Tensor):
            return arg
        shape = list(arg.shape)
        if dim is not None:
            del shape[dim]
        return torch.empty(shape, dtype=arg.dtype, device="meta")

    device = next(a.device for a in pytree.tree_leaves(args) if isinstance(a, torch.Tensor))
    output = op(*(on_meta(a, d) for a, d in zip(args, dims, strict=True)))
    return pytree.tree_map(
        lambda result: torch.empty((0, *result.shape), dtype=result.dtype, device=device), output
    )
