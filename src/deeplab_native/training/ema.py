"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """average <- d average + (1 - d) weights after every update.

    d is min(decay, (1 + i) / (10 + i)) at update i = 1, 2, ..., so that the first weights, which
    are drawn, are soon forgotten.

    Attributes:
        averages: of every trained parameter, by its name; in float32.
        decay: of the configuration.
        updates: i.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone().float() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are; called once after every update."""
        share = self.next_share()
        torch._foreach_lerp_(list(self.averages.values()), list(self._weights.values()), share)

    def next_share(self) -> float:
        """Counts an update and gives its 1 - d, for `mix`."""
        self.updates += 1
        return 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def mix(self, share: torch.Tensor) -> None:
        """`update` with 1 - d on the device, () float32, where a CUDA graph reads it."""
        averages = list(self.averages.values())
        changes = torch._foreach_sub(list(self._weights.values()), averages)
        torch._foreach_mul_(changes, share)
        torch._foreach_add_(averages, changes)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model has the averages; then its own weights again."""
        own = {name: p.detach().clone() for name, p in self._weights.items()}
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._weights.items():
            parameter.copy_(values[name])
