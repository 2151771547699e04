"""The algorithm of all atrous convolutions of a net at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..ops._conv_checks import check_algorithm
from .atrous import AtrousConv2d


def set_algorithm(model: nn.Module, algorithm: str) -> None:
    """Sets the algorithm of every `AtrousConv2d` in a net, those of `ASPP` heads among them.

    With "aten" the net consists of PyTorch's own operators only, so that every exporter and
    compiler knows them; an `ASPP` is then one convolution after another.

    Args:
        model: any module; one without atrous convolutions is left as it is.
        algorithm: one of those of `atrous_conv2d`.

    Raises:
        TypeError: `model` is no module.
        ValueError: the algorithm is unknown, or lacks the stride of a layer, which the message
            names; no layer is changed.
    """
    layers = _layers(model)
    check_algorithm(algorithm, (1, 1))
    for name, layer in layers.items():
        try:
            check_algorithm(algorithm, layer.stride)
        except ValueError as error:
            raise ValueError(f"{name or 'model'}: {error}") from None
    for layer in layers.values():
        layer.algorithm = algorithm


@contextmanager
def using_algorithm(model: nn.Module, algorithm: str) -> Iterator[None]:
    """As `set_algorithm`, within a `with` block; each layer's own algorithm comes back after it."""
    before = [(layer, layer.algorithm) for layer in _layers(model).values()]
    set_algorithm(model, algorithm)
    try:
        yield
    finally:
        for layer, own in before:
            layer.algorithm = own


def _layers(model: nn.Module) -> dict[str, AtrousConv2d]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    return {name: m for name, m in model.named_modules() if isinstance(m, AtrousConv2d)}
