"""Updates of the weights, with batches of the loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
import torch
from torch import nn

from ..data import SampleError
from .checkpoints import State
from .optimizer import set_learning_rate
from .processes import mean_of_all
from .samples import Batch

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from .config import Config

_DROPOUT = 3  # stream of random numbers, beside those of `samples`


class Steps(Protocol):
    """What a loop needs of updates."""

    def update(self, rate: float) -> None:
        """The update of iteration `state.iteration`, at a learning rate."""

    def means(self) -> tuple[float, float]:
        """Mean loss, and norm of its gradient, of the updates since this was asked for last.

        Raises FloatingPointError as `check` does.
        """

    def sums(self) -> tuple[float, float, int]:
        """Of losses and of norms since `means` was asked for last, and of how many updates."""

    def go_on(self, sums: tuple[float, float, int]) -> None:
        """Takes over the `sums` of a run that was interrupted."""

    def check(self) -> None:
        """Raises FloatingPointError where a loss or gradient so far was not finite."""


class LoaderSteps:
    """`Steps` whose every loss is looked at before it changes a weight.

    Args:
        module: `TrainingLoss`, set up by `fabric`.
        batches: of `training_loader`, from the iteration of `state` on.
        note: is told what could not be used.
    """

    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        state: State,
        module: Any,
        batches: Iterator[Batch | SampleError],
        note: Callable[[list[tuple[str, str]]], None],
    ) -> None:
        self.config, self.fabric, self.state = config, fabric, state
        self.module, self.batches, self.note = module, batches, note
        self._loss = self._norm = 0.0
        self._updates = 0

    def update(self, rate: float) -> None:
        """Raises FloatingPointError, SampleError."""
        config, fabric, state = self.config, self.fabric, self.state
        set_learning_rate(state.optimizer, rate)
        seed_dropout(config.seed, state.iteration, fabric.global_rank)
        total = torch.zeros((), device=fabric.device)
        names: list[str] = []
        for i in range(config.accumulate):
            batch = next(self.batches)
            if isinstance(batch, SampleError):
                raise batch
            self.note(batch.failures)
            names += batch.names
            batch = batch._replace(
                images=batch.images.to(fabric.device, non_blocking=True),
                labels=batch.labels.to(fabric.device, non_blocking=True),
            )
            with fabric.no_backward_sync(self.module, enabled=i + 1 < config.accumulate):
                loss = self.module(batch) / config.accumulate
                fabric.backward(loss)
            total += loss.detach()
        own, mean = float(total), float(mean_of_all(total))
        if not math.isfinite(mean):
            others = ["samples of another process"]
            fail("loss", mean, state.iteration, rate, others if math.isfinite(own) else names)
        norm = float(clip_gradients(trained_parameters(state), config.optimizer.clip))
        if not math.isfinite(norm):
            fail("norm of the gradient", norm, state.iteration, rate, names)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update()
        self._loss += mean
        self._norm += norm
        self._updates += 1

    def means(self) -> tuple[float, float]:
        """See `Steps`."""
        result = self._loss / self._updates, self._norm / self._updates
        self._loss = self._norm = 0.0
        self._updates = 0
        return result

    def sums(self) -> tuple[float, float, int]:
        """See `Steps`."""
        return self._loss, self._norm, self._updates

    def go_on(self, sums: tuple[float, float, int]) -> None:
        """See `Steps`."""
        self._loss, self._norm, self._updates = sums

    def check(self) -> None:
        """`update` has checked it."""


def trained_parameters(state: State) -> list[nn.Parameter]:
    """All that the optimizer has, those that rest included."""
    return [p for group in state.optimizer.param_groups for p in group["params"]]


def clip_gradients(parameters: Sequence[nn.Parameter], clip: float | None) -> torch.Tensor:
    """The norm of all gradients together, which are cut to `clip` where it is given."""
    parameters = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return norm


def seed_dropout(seed: int, iteration: int, rank: int) -> None:
    """Dropout depends on iteration and process, whatever was drawn before."""
    entropy = (seed, _DROPOUT, iteration, rank)
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def fail(what: str, value: float, iteration: int, rate: float, names: Sequence[str]) -> NoReturn:
    """FloatingPointError that says what was no longer finite, in which update, with what."""
    raise FloatingPointError(
        f"iteration {iteration + 1}: the {what} is {value} at lr {rate:.4g}, with "
        f"{', '.join(names)} (lower optimizer.lr, or set optimizer.clip)"
    )
