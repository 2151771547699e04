"""Updates of the weights that the device does alone: the host only says which samples, and goes on.

Everything that an update takes of the host, where its crops lie and what the rate is, goes to the
device as one array; nothing comes back before a line of the logs is due. So an update is the same
work every time, at the same addresses, and can be recorded as a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .checkpoints import State
from .device_samples import COLUMNS, DeviceSamples
from .processes import mean_of_all
from .progress import say
from .samples import Passes
from .schedule import learning_rate
from .steps import clip_gradients, fail, seed_dropout, trained_parameters

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from .config import Config

Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes what is to be recorded, without doing it, and gives what does it."""

WARM_UPDATES = 3
"""Updates before the recording: they choose algorithms and make the momenta."""


def record_cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """`Recorder` of the current CUDA device."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@contextmanager
def _timed_algorithms() -> Iterator[None]:
    """Within, cuDNN times its algorithms for a shape it sees first, and goes on with the fastest.

    Updates have the same shapes throughout; the images of a validation, each with its own, do not.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class DeviceSteps:
    """`Steps` on crops of `DeviceSamples`, which wait for the device only where they are asked.

    A loss that is not finite is found there, when `means` or `check` is called: before a
    checkpoint, not before the weights change.

    Args:
        module: `TrainingLoss`, set up by `fabric`.
        recorder: what records an update after `WARM_UPDATES` of them; None starts its kernels one
            by one, as after a recording that failed.
    """

    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        state: State,
        module: Any,
        samples: DeviceSamples,
        recorder: Recorder | None = None,
    ) -> None:
        self.config, self.fabric, self.state = config, fabric, state
        self.module, self.samples, self._recorder = module, samples, recorder
        self._parameters = trained_parameters(state)
        device = fabric.device
        groups = state.optimizer.param_groups
        self._multipliers = [group["lr_multiplier"] for group in groups]
        self._rates = torch.zeros(len(groups), device=device)
        for group, rate in zip(groups, self._rates.unbind(), strict=True):
            group["lr"] = rate
        crops = config.batch // fabric.world_size
        # float64: draws, rates, share of the average, iteration
        self._inputs = torch.zeros(
            crops * COLUMNS + len(groups) + 2, dtype=torch.float64, device=device
        )
        draws, self._scalars = self._inputs.split([crops * COLUMNS, len(groups) + 2])
        self._draws = draws.view(config.accumulate, -1, COLUMNS)
        self._share = torch.zeros((), device=device)
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)  # of losses and norms
        # iteration, loss and norm of the first update where one of them is not finite
        self._bad = torch.full((3,), -1.0, dtype=torch.float64, device=device)
        self._updates = self._warm = 0
        self._replay: Callable[[], None] | None = None
        on_cuda = recorder is not None and device.type == "cuda"
        self._side = torch.cuda.Stream(device) if on_cuda else None

    def update(self, rate: float) -> None:
        """See `Steps`; raises SampleError. It only starts the work."""
        self._send(rate)
        seed_dropout(self.config.seed, self.state.iteration, self.fabric.global_rank)
        if self._replay is None and self._recorder is not None and self._warm >= WARM_UPDATES:
            self._record(self._recorder)
        if self._replay is not None:
            self._replay()
        elif self._side is not None:
            # as a recording does: what autograd and cuDNN keep by stream is then there
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side), _timed_algorithms():
                self._step()
            torch.cuda.current_stream().wait_stream(self._side)
        else:
            self._step()
        self._warm += 1
        self._updates += 1

    def means(self) -> tuple[float, float]:
        """See `Steps`."""
        self.check()
        loss, norm = (self._sums / self._updates).tolist()
        self._sums.zero_()
        self._updates = 0
        return loss, norm

    def sums(self) -> tuple[float, float, int]:
        """See `Steps`."""
        loss, norm = self._sums.tolist()
        return loss, norm, self._updates

    def go_on(self, sums: tuple[float, float, int]) -> None:
        """See `Steps`."""
        self._sums.copy_(torch.tensor(sums[:2], dtype=torch.float64))
        self._updates = sums[2]

    def check(self) -> None:
        """See `Steps`."""
        iteration, loss, norm = self._bad.tolist()
        if iteration < 0:
            return
        done = int(iteration)
        rate = learning_rate(self.config.schedule, self.config.optimizer, done)
        names = self.samples.names([n for part in self._numbers(done) for n in part])
        if not math.isfinite(loss):
            fail("loss", loss, done, rate, names)
        fail("norm of the gradient", norm, done, rate, names)

    def _numbers(self, iteration: int) -> list[list[int]]:
        """Of this process's samples in the passes of an iteration."""
        return list(
            Passes(
                batch=self.config.batch,
                accumulate=self.config.accumulate,
                rank=self.fabric.global_rank,
                processes=self.fabric.world_size,
                start=iteration,
                stop=iteration + 1,
            )
        )

    def _send(self, rate: float) -> None:
        state = self.state
        numbers = [n for part in self._numbers(state.iteration) for n in part]
        share = 0.0 if state.average is None else state.average.next_share()
        rates = [rate * multiplier for multiplier in self._multipliers]
        draws = self.samples.draws(numbers).ravel()
        values = torch.from_numpy(np.concatenate([draws, [*rates, share, state.iteration]]))
        if self._inputs.is_cuda:
            values = values.pin_memory()  # torch keeps it until the copy is done
        self._inputs.copy_(values, non_blocking=True)

    def _record(self, recorder: Recorder) -> None:
        self.state.optimizer.zero_grad(set_to_none=True)  # gradients of the recording's own memory
        try:
            self._replay = recorder(self._step)
        except RuntimeError as error:
            first = str(error).split("\n")[0]
            say(f"graph: an update cannot be recorded ({first}): kernels are started one by one")
            self._recorder = None

    def _step(self) -> None:
        """What is recorded: it reads `_inputs` and what it changed itself, and no value of it."""
        config, fabric, state = self.config, self.fabric, self.state
        self._rates.copy_(self._scalars[:-2])
        self._share.copy_(self._scalars[-2])
        state.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=fabric.device)
        for i in range(config.accumulate):
            batch = self.samples.crops(self._draws[i])
            with fabric.no_backward_sync(self.module, enabled=i + 1 < config.accumulate):
                loss = self.module(batch) / config.accumulate
                fabric.backward(loss)
            total += loss.detach()
        total = mean_of_all(total)
        norm = clip_gradients(self._parameters, config.optimizer.clip)
        state.optimizer.step()
        if state.average is not None:
            state.average.mix(self._share)
        found = torch.stack([total.double(), norm.double()])
        self._sums += found
        wrong = (self._bad[0] < 0) & ~found.isfinite().all()
        now = torch.cat([self._scalars[-1:], found])
        self._bad.copy_(torch.where(wrong, now, self._bad))
