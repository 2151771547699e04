"""The loop over updates.

It is our own on Lightning Fabric, which brings processes, devices and precision: the paper's
schedule counts updates, not epochs, and a checkpoint is to hold nothing but tensors and JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import nn

from ..data import SampleError
from ..models.base import DeepLab
from .checkpoints import State, save_checkpoint
from .ema import WeightAverage
from .interruption import Interruption
from .logs import Logs
from .loss import TrainingLoss
from .optimizer import make_optimizer, set_learning_rate
from .processes import largest_of_all, mean_of_all, sum_of_all
from .progress import Reporter
from .samples import Batch, training_loader
from .schedule import learning_rate
from .setup import DataSets
from .validation import chosen_images, validate

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from ..metrics import SegmentationScores
    from .config import Config

CHECKPOINTS = "checkpoints"
_DROPOUT = 3  # stream of random numbers, beside those of `samples`


@dataclass
class Outcome:
    """Of a run.

    Attributes:
        iteration: updates so far.
        weights: the file with the trained net; None where the run was interrupted.
        scores: of the last validation in this process's time, or None.
        failures: name -> message of the samples that this process could not use.
        interrupted_by: number of the signal, 0 for none.
    """

    iteration: int = 0
    weights: Path | None = None
    scores: SegmentationScores | None = None
    failures: dict[str, str] = field(default_factory=dict)
    interrupted_by: int = 0


class Loop:
    """Updates, validations and checkpoints of a run, in one process of it.

    Attributes:
        state: what is trained; a checkpoint may be put into it before `train`.
        outcome: so far.
    """

    def __init__(
        self, config: Config, out: Path, fabric: Fabric, data: DataSets, net: DeepLab
    ) -> None:
        self.config, self.out, self.fabric, self.data = config, out, fabric, data
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.net = net.to(fabric.device).to(memory_format=layout)  # type: ignore[call-overload]
        self.loss = TrainingLoss(self.net, config.loss, channels_last=config.channels_last)
        average = None if config.ema is None else WeightAverage(self.net, config.ema)
        self.state = State(self.net, make_optimizer(self.net, config.optimizer), average)
        self.outcome = Outcome()
        groups = self.state.optimizer.param_groups
        self._parameters = [p for group in groups for p in group["params"]]
        trunk = [group for group in groups if group["name"].startswith("trunk")]
        self._trunk = [p for group in trunk for p in group["params"]]

    def train(self, interruption: Interruption) -> Outcome:
        """From `state.iteration` on, to the end or to a signal."""
        first = self.fabric.is_global_zero
        start = self.state.iteration
        logs = Logs(self.out, self.data.train.classes, start) if first else None
        with Reporter(self.config.iterations, start, quiet=not first) as reporter:
            try:
                for phase in self._phases():
                    self._train_phase(*phase, logs, reporter, interruption)
                    if self.outcome.interrupted_by:
                        break
            finally:
                if logs is not None:
                    logs.close()
        self.outcome.iteration = self.state.iteration
        return self.outcome

    def averaged(self) -> AbstractContextManager[None]:
        """Within, the net has the weights that are validated and saved."""
        return nullcontext() if self.state.average is None else self.state.average.applied()

    def _phases(self) -> Iterator[tuple[int, int, bool]]:
        """(start, stop, whether the trunk rests) of what is still to do."""
        head = self.config.schedule.head_first.iterations
        for start, stop, rests in ((0, head, True), (head, self.config.iterations, False)):
            if max(start, self.state.iteration) < stop:
                yield max(start, self.state.iteration), stop, rests

    def _train_phase(
        self,
        start: int,
        stop: int,
        rests: bool,
        logs: Logs | None,
        reporter: Reporter,
        interruption: Interruption,
    ) -> None:
        config, fabric = self.config, self.fabric
        for parameter in self._trunk:
            parameter.requires_grad_(not rests)
        # anew in every phase: DistributedDataParallel waits for every parameter with a gradient
        module = fabric.setup_module(self.loss)
        batches = iter(
            training_loader(
                self.data.train,
                config,
                rank=fabric.global_rank,
                processes=fabric.world_size,
                start=start,
                stop=stop,
                pin_memory=fabric.device.type == "cuda",
            )
        )
        self.net.train()
        window = _Window()
        for iteration in range(start, stop):
            rate = learning_rate(config.schedule, config.optimizer, iteration)
            loss, norm = self._update(module, batches, rate, reporter)
            self.state.iteration = done = iteration + 1
            last = done == config.iterations
            window.add(loss, norm, config.batch)
            reporter.step(done)
            if done % config.log_every == 0 or last:
                values = window.means(rate)
                reporter.log(done, loss=values["loss"], lr=rate, rate=values["images_per_second"])
                if logs is not None:
                    logs.step(done, values)
                window = _Window()
            before = perf_counter()
            received = largest_of_all(interruption.signal, fabric.device)
            every = config.validation.every
            validates = last or (every is not None and done % every == 0)
            # before the validation, too: no fault and no signal there costs what was trained
            if fabric.is_global_zero and (
                received or validates or done % config.checkpoints.every == 0
            ):
                record = {"config": config.model_dump(mode="json")}
                folder = self.out / CHECKPOINTS
                save_checkpoint(folder, self.state, record, keep=config.checkpoints.keep)
            if received and not last:
                self.outcome.interrupted_by = received
                return
            if validates:
                self._validate(done, logs, reporter)
            window.pause(perf_counter() - before)

    def _update(
        self, module: Any, batches: Iterator[Batch | SampleError], rate: float, reporter: Reporter
    ) -> tuple[float, float]:
        """One step of the optimizer; the loss, and the norm of its gradient."""
        config, fabric, optimizer = self.config, self.fabric, self.state.optimizer
        set_learning_rate(optimizer, rate)
        # dropout: by iteration and process, whatever was drawn before
        entropy = (config.seed, _DROPOUT, self.state.iteration, fabric.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        total = torch.zeros((), device=fabric.device)
        names: list[str] = []
        for i in range(config.accumulate):
            batch = next(batches)
            if isinstance(batch, SampleError):
                raise batch
            self._note(batch.failures, reporter)
            names += batch.names
            batch = batch._replace(
                images=batch.images.to(fabric.device, non_blocking=True),
                labels=batch.labels.to(fabric.device, non_blocking=True),
            )
            with fabric.no_backward_sync(module, enabled=i + 1 < config.accumulate):
                loss = module(batch) / config.accumulate
                fabric.backward(loss)
            total += loss.detach()
        own, mean = float(total), float(mean_of_all(total))
        if not math.isfinite(mean):
            others = ["samples of another process"]
            self._fail("loss", mean, rate, others if math.isfinite(own) else names)
        norm = self._clip()
        if not math.isfinite(norm):
            self._fail("norm of the gradient", norm, rate, names)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if self.state.average is not None:
            self.state.average.update()
        return mean, norm

    def _clip(self) -> float:
        """The norm of all gradients together, which are cut to `clip` where it is given."""
        parameters = [p for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.config.optimizer.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.config.optimizer.clip, norm)
        return float(norm)

    def _fail(self, what: str, value: float, rate: float, names: list[str]) -> NoReturn:
        raise FloatingPointError(
            f"iteration {self.state.iteration + 1}: the {what} is {value} at lr {rate:.4g}, with "
            f"{', '.join(names)} (lower optimizer.lr, or set optimizer.clip)"
        )

    def _validate(self, done: int, logs: Logs | None, reporter: Reporter) -> None:
        """All processes, each with its share of the images."""
        dataset, options, fabric = self.data.val, self.config.validation, self.fabric
        if dataset is None:
            return
        mine = chosen_images(len(dataset), options.images)[fabric.global_rank :: fabric.world_size]
        with self.averaged(), reporter.images("validate", len(mine)) as progress:
            result = validate(
                self.net,
                dataset,
                mine,
                device=fabric.device,
                autocast=fabric.autocast,
                channels_last=self.config.channels_last,
                scale=options.scale,
                pictures=options.pictures if fabric.is_global_zero else 0,
                skip_bad=self.config.data.on_bad_sample == "skip",
                progress=progress,
            )
        self._note(result.failures, reporter)
        result.counts = sum_of_all(result.counts, fabric.device)
        scores = self.outcome.scores = result.scores()
        reporter.say(
            f"iteration {done}: mean IoU {100 * scores.mean_iou:.2f} %, "
            f"pixel accuracy {100 * scores.pixel_accuracy:.2f} %"
        )
        if logs is not None:
            ious = scores.class_iou.tolist()
            logs.validation(done, scores.mean_iou, scores.pixel_accuracy, ious)
            logs.pictures(done, result.pictures)

    def _note(self, failures: list[tuple[str, str]], reporter: Reporter) -> None:
        for name, message in failures:
            if name not in self.outcome.failures:
                self.outcome.failures[name] = message
                reporter.say(f"left out: {message}")


class _Window:
    """Sums since the last line of the logs."""

    def __init__(self) -> None:
        self._since = perf_counter()
        self._loss = self._norm = 0.0
        self._updates = self._images = 0

    def add(self, loss: float, norm: float, images: int) -> None:
        self._loss += loss
        self._norm += norm
        self._updates += 1
        self._images += images

    def pause(self, seconds: float) -> None:
        """Time that is not training's."""
        self._since += seconds

    def means(self, rate: float) -> dict[str, float]:
        return {
            "loss": self._loss / self._updates,
            "lr": rate,
            "gradient_norm": self._norm / self._updates,
            "images_per_second": self._images / max(1e-9, perf_counter() - self._since),
        }
