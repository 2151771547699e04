"""A call of every op of the package, for what `torch.func` makes of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from deeplab_native import _native, ops

SAMPLES = 3

for module in pkgutil.iter_modules(ops.__path__):  # an op is known once it is imported
    importlib.import_module(f"{ops.__name__}.{module.name}")
NAMES = sorted(_native.CUDA_IMPLEMENTATIONS)


class Case(NamedTuple):
    """What an op is called with.

    args: of the op, made of `new(*shape)`. differentiable: which of its tensors, in the order of
    the arguments. derivatives: 0, 1, or 2 for any number. forward: whether it has forward mode.
    """

    op: str
    args: Callable[[Callable[..., torch.Tensor]], Sequence[Any]]
    differentiable: Sequence[int]
    derivatives: int = 2
    forward: bool = True
    only_cuda: bool = False

    def __str__(self) -> str:
        return self.op


class Call:
    """A case as a function of its tensors, whose results are a tuple of tensors."""

    def __init__(self, case: Case, device: torch.device, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def new(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)

        leaves, self._spec = pytree.tree_flatten(list(case.args(new)))
        self._op = getattr(getattr(torch.ops, _native.NAMESPACE), case.op).default
        self._is_tensor = [isinstance(leaf, torch.Tensor) for leaf in leaves]
        self._others = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        self.tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        of, others = iter(tensors), iter(self._others)
        leaves = [next(of) if is_tensor else next(others) for is_tensor in self._is_tensor]
        return tuple(pytree.tree_leaves(self._op(*pytree.tree_unflatten(leaves, self._spec))))

    def of(self, positions: Sequence[int]) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The function of some of the tensors, at these positions; the others are what they are."""

        def function(*some: torch.Tensor) -> tuple[torch.Tensor, ...]:
            tensors = list(self.tensors)
            for i, tensor in zip(positions, some, strict=True):
                tensors[i] = tensor
            return self(*tensors)

        return function

    def scalar(self, positions: Sequence[int]) -> Callable[..., torch.Tensor]:
        """A number that all results count in, not linearly."""
        function = self.of(positions)
        return lambda *some: sum((out.sin() + out * out).sum() for out in function(*some))


def _image(new: Callable[..., torch.Tensor], *shape: int) -> torch.Tensor:
    return (new(*shape) * 40 + 120).clamp(0, 255).to(torch.uint8)


GEOMETRY = [1, 1], [2, 2], [2, 2]  # stride, padding, rate
WINDOW = [3, 3], [2, 1], [2, 2], [2, 1]  # kernel, stride, padding, rate
INDEX = [-1, 0, 1, 0, 2]  # rows of a matrix of three taps, of weights 1 x 2 and 1 x 3


def _conv(algorithm: str) -> Case:
    return Case(
        "atrous_conv2d",
        lambda new: [new(2, 2, 5, 4), new(3, 2, 3, 3), new(3), *GEOMETRY, algorithm],
        (0, 1, 2),
        only_cuda=algorithm == "direct",
    )


def _conv_backward(algorithm: str, *mask: bool) -> Case:
    return Case(
        "atrous_conv2d_backward",
        lambda new: [
            *(new(2, 3, 5, 4), new(2, 2, 5, 4), new(3, 2, 3, 3)),
            *(*GEOMETRY, algorithm, list(mask)),
        ],
        (0, 1, 2),
        only_cuda=algorithm == "direct",
    )


def _taps_backward(*mask: bool) -> Case:
    return Case(
        "aspp_taps_backward",
        lambda new: [
            *(new(2, 3, 4, 5), new(2, 2, 4, 5), new(2, 5, 2)),
            *([0, 0, -1, 2], list(mask)),
        ],
        (0, 1, 2),
    )


FILTERED = ((7, 2), (7, 3)), ((2, 7, 2), (7, 3)), ((2, 7, 2), (2, 7, 3))  # values, features


def _filter(values: Sequence[int], features: Sequence[int]) -> Case:
    return Case(
        "permutohedral_filter", lambda new: [new(*values), new(*features), False, False], (0,)
    )


def _filter_of_features(values: Sequence[int], features: Sequence[int]) -> Case:
    return Case(
        "permutohedral_filter",
        lambda new: [new(*values), new(*features), False, False],
        (1,),
        derivatives=1,
        forward=False,
    )


def _filter_backward(values: Sequence[int], features: Sequence[int]) -> Case:
    return Case(
        "permutohedral_filter_backward",
        lambda new: [new(*values), new(*values), new(*features), False, False],
        (0, 1, 2),
        derivatives=0,
        forward=False,
    )


def _fields(new: Callable[..., torch.Tensor]) -> list[Any]:
    matrix = new(3, 3)
    compatibilities = [new(), new(3), matrix]
    return [[new(7, 2), new(2, 7, 3), new(7, 1)], compatibilities, [3, 2, 1], 2]


def _mean_field_backward(needs: bool, *needs_features: bool) -> Case:
    return Case(
        "mean_field_backward",
        lambda new: [
            *(new(2, 3, 7), new(2, 3, 7), *_fields(new)),
            *(needs, list(needs_features), 0, False),
        ],
        (0, 1),
        derivatives=0,
        forward=False,
    )


def _weights(new: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    return [new().abs() + 1, new().abs() + 1]


SIGMAS = [3.0, 3.0, 10.0, 10.0, 20.0, 20.0, 20.0]  # gamma, alpha, beta: of y and x, of channels


def _dense_crf(scale: float) -> Case:
    return Case(
        "dense_crf",
        lambda new: [
            *(new(2, 3, 5, 4), _image(new, 2, 3, 5, 4), _weights(new)),
            *(SIGMAS, 3, 2, scale, False, False),
        ],
        (0, 2, 3),
        derivatives=1,
        forward=False,
    )


def _dense_crf_backward(needs: bool) -> Case:
    return Case(
        "dense_crf_backward",
        lambda new: [
            *(new(2, 3, 5, 4), new(2, 3, 5, 4), _image(new, 2, 3, 5, 4), _weights(new)),
            *(SIGMAS, 3, 2, needs, 1.0, False),
        ],
        (0, 1),
        derivatives=0,
        forward=False,
    )


SIZES = (5, 4), (3, 6)


def _of_sizes(make: Callable[..., torch.Tensor], channels: int) -> list[torch.Tensor]:
    return [make(channels, *size) for size in SIZES]


def _images(new: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    return _of_sizes(lambda *shape: _image(new, *shape), 3)


def _images_backward(needs: bool) -> Case:
    return Case(
        "dense_crf_images_backward",
        lambda new: [
            *(_of_sizes(new, 2), _of_sizes(new, 2), _images(new), _weights(new)),
            *(SIGMAS, 3, 2, needs, 1.0, False),
        ],
        (0, 1, 2, 3),
        derivatives=0,
        forward=False,
    )


def _branches(new: Callable[..., torch.Tensor]) -> list[Any]:
    return [new(2, 2, 5, 6), [new(3, 2, 3, 3), new(3, 2, 1, 3)], [new(3), new(3)], [2, 1, 1, 3]]


def _packed(new: Callable[..., torch.Tensor]) -> list[Any]:
    return [[new(3, 2, 1, 2), new(3, 2, 1, 3)], INDEX, 3, 5, torch.float64]


def _of_images(new: Callable[..., torch.Tensor]) -> list[Any]:
    return [_of_sizes(new, 2), _images(new), _weights(new), SIGMAS, 3, 2, 1.0, False, False]


def _dense_crf_loss(gated: bool) -> Case:
    return Case(
        "dense_crf_loss",
        lambda new: [
            *(new(2, 3, 5, 4), new(2, 5, 4).abs()),
            *(new(2, 5, 4).abs() if gated else None, _image(new, 2, 3, 5, 4), SIGMAS[2:]),
        ],
        (0,),
    )


def _upsampled(new: Callable[..., torch.Tensor]) -> list[Any]:
    return [new(2, 3, 6, 5), new(2, 3, 6, 5), [3, 2], [7, 6]]


CASES = [
    *map(_conv, ("im2col", "space_to_batch", "direct")),
    *(_conv_backward(a, True, True, True) for a in ("im2col", "space_to_batch", "direct")),
    *(_conv_backward("im2col", *m) for m in ((True, False, True), (False, True, False))),
    Case("atrous_im2col", lambda new: [new(2, 2, 5, 4), *WINDOW], (0,)),
    Case("atrous_col2im", lambda new: [new(2, 18, 18), [5, 4], *WINDOW], (0,)),
    Case("space_to_batch", lambda new: [new(2, 2, 5, 4), [2, 3], [1, 0]], (0,)),
    Case("batch_to_space", lambda new: [new(12, 2, 4, 2), [2, 3], [5, 4], [1, 0]], (0,)),
    Case("aspp_branches", _branches, (0, 1, 2, 3, 4)),
    Case(
        "aspp_taps",
        lambda new: [new(2, 2, 4, 5), new(2, 3, 2), new(3), [0, 0, -1, 2], 3],
        (0, 1, 2),
    ),
    *(_taps_backward(*m) for m in ((True, True), (True, False), (False, True))),
    Case("aspp_pack", _packed, (0, 1)),
    Case("aspp_unpack", lambda new: [new(3, 5, 2), 3, [1, 3], [2, -1, 0]], (0,)),
    Case("upsample_unary", lambda new: [new(2, 3, 3, 2), [7, 6], [6, 5]], (0,), derivatives=1),
    Case("upsample_unary_backward", _upsampled, (0, 1), derivatives=0, forward=False),
    *(_filter(v, f) for v, f in FILTERED),
    *(_filter_of_features(v, f) for v, f in FILTERED),
    *(_filter_backward(v, f) for v, f in FILTERED),
    Case("gauss_transform", lambda new: [new(2, 7, 2), new(2, 7, 3), 0.0, False], (0, 1)),
    Case(
        "gauss_transform_features",
        lambda new: [new(2, 7, 2), new(2, 7, 2), new(2, 7, 3), 0.0, False],
        (0, 1, 2),
    ),
    Case(
        "mean_field",
        lambda new: [new(2, 3, 7), *_fields(new), False, 0, False],
        (0, 1, 2, 3, 4, 5, 6),
        derivatives=1,
        forward=False,
    ),
    _mean_field_backward(True, True, True, True),
    _mean_field_backward(False, False, True, False),
    _mean_field_backward(False, False, False, False),
    *map(_dense_crf, (1.0, 0.5)),
    *map(_dense_crf_backward, (True, False)),
    *map(_dense_crf_loss, (True, False)),
    Case(
        "random_walk",
        lambda new: [new(2, 3, 5, 4), _image(new, 2, 3, 5, 4), SIGMAS[2:], 3, False],
        (0,),
    ),
    Case("dense_crf_images", _of_images, (0, 1, 4, 5), derivatives=1, forward=False),
    *map(_images_backward, (True, False)),
]
