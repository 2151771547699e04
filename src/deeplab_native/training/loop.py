"""The loop over updates.

It is our own on Lightning Fabric, which brings processes, devices and precision: the paper's
schedule counts updates, not epochs, and a checkpoint is to hold nothing but tensors and JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from ..models.base import DeepLab
from .checkpoints import State, save_checkpoint
from .device_samples import DeviceSamples, DoesNotFitError
from .device_steps import DeviceSteps, record_cuda_graph
from .ema import WeightAverage
from .interruption import Interruption
from .logs import Logs
from .loss import TrainingLoss
from .optimizer import make_optimizer
from .processes import largest_of_all, sum_of_all
from .progress import Reporter
from .samples import training_loader
from .schedule import learning_rate
from .setup import DataSets
from .steps import LoaderSteps, Steps
from .validation import chosen_images, validate

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from ..metrics import SegmentationScores
    from .config import Config

CHECKPOINTS = "checkpoints"


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
        trunk = [group for group in groups if group["name"].startswith("trunk")]
        self._trunk = [p for group in trunk for p in group["params"]]

    def train(self, interruption: Interruption) -> Outcome:
        """From `state.iteration` on, to the end or to a signal."""
        first = self.fabric.is_global_zero
        start = self.state.iteration
        logs = Logs(self.out, self.data.train.classes, start) if first else None
        with Reporter(self.config.iterations, start, quiet=not first) as reporter:
            try:
                samples = self._device_samples(reporter)
                self._make_up(logs, reporter)
                for phase in self._phases():
                    self._train_phase(*phase, logs, reporter, samples, interruption)
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

    def _make_up(self, logs: Logs | None, reporter: Reporter) -> None:
        """The validation after a checkpoint, where the run ended between the two."""
        done = self.state.iteration
        missing = logs is not None and done > 0 and not logs.is_validated(done)
        if self._validates_after(done) and largest_of_all(int(missing), self.fabric.device):
            self._validate(done, logs, reporter)

    def _validates_after(self, done: int) -> bool:
        every = self.config.validation.every
        return done == self.config.iterations or (every is not None and done % every == 0)

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
        samples: DeviceSamples | None,
        interruption: Interruption,
    ) -> None:
        config, fabric = self.config, self.fabric
        self.rest_trunk(rests)
        steps = self.steps(start, stop, reporter, samples)
        if start == self.state.iteration != config.schedule.head_first.iterations:
            steps.go_on(self.state.sums)  # a checkpoint's, which need not be where a line is
        self.net.train()
        window, logged = _Window(), start
        for iteration in range(start, stop):
            rate = learning_rate(config.schedule, config.optimizer, iteration)
            self._update(steps, rate)
            self.state.iteration = done = iteration + 1
            last = done == config.iterations
            reporter.step(done)
            if done % config.log_every == 0 or last:
                values = window.values(*steps.means(), rate, (done - logged) * config.batch)
                logged = done
                reporter.log(done, loss=values["loss"], lr=rate, rate=values["images_per_second"])
                if logs is not None:
                    logs.step(done, values)
                window = _Window()
            received = largest_of_all(interruption.signal, fabric.device)
            validates = self._validates_after(done)
            # before the validation, too: no fault and no signal there costs what was trained
            saves = received or validates or done % config.checkpoints.every == 0
            if saves:
                steps.check()  # it may wait for updates, which are no pause
                self.state.sums = steps.sums()
            before = perf_counter()
            if saves and logs is not None:  # in the first process
                logs.flush()
                record = {"config": config.model_dump(mode="json")}
                folder = self.out / CHECKPOINTS
                save_checkpoint(folder, self.state, record, keep=config.checkpoints.keep)
            if received and not last:
                self.outcome.interrupted_by = received
                return
            if validates:
                self._validate(done, logs, reporter)
            window.pause(perf_counter() - before)

    def _update(self, steps: Steps, rate: float) -> None:
        """One update; a method of its own, so that tests can come between."""
        steps.update(rate)

    def rest_trunk(self, rests: bool) -> None:
        """Whether the trunk keeps its weights, and no gradient is computed in it."""
        for parameter in self._trunk:
            parameter.requires_grad_(not rests)

    def steps(
        self, start: int, stop: int, reporter: Reporter, samples: DeviceSamples | None
    ) -> Steps:
        """For the iterations from `start` to `stop` - 1."""
        config, fabric = self.config, self.fabric
        # anew in every phase: DistributedDataParallel waits for every parameter with a gradient
        module = fabric.setup_module(self.loss)
        if samples is not None:
            recorder = record_cuda_graph if self._records() else None
            return DeviceSteps(config, fabric, self.state, module, samples, recorder)
        loader = training_loader(
            self.data.train,
            config,
            rank=fabric.global_rank,
            processes=fabric.world_size,
            start=start,
            stop=stop,
            pin_memory=fabric.device.type == "cuda",
        )

        def note(failures: list[tuple[str, str]]) -> None:
            self._note(failures, reporter)

        return LoaderSteps(config, fabric, self.state, module, iter(loader), note)

    def _records(self) -> bool:
        """Whether updates are replayed as CUDA graphs."""
        fabric = self.fabric
        return self.config.graph and fabric.device.type == "cuda" and fabric.world_size == 1

    def _device_samples(self, reporter: Reporter) -> DeviceSamples | None:
        """None where the loader is to read them."""
        config, fabric = self.config, self.fabric
        if not config.data.on_device:
            return None
        try:
            preprocessing = self.net.preprocessing
            samples = DeviceSamples(self.data.train, config, preprocessing, fabric.device)
        except DoesNotFitError as error:
            reporter.say(f"data.on_device: {error}: they are read for every batch instead")
            return None
        self._note(samples.failures, reporter)
        if config.graph and not self._records():
            reporter.say("graph: needs CUDA and one process; kernels are started one by one")
        return samples

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
            logs.pictures(done, result.pictures)
            logs.validation(done, scores.mean_iou, scores.pixel_accuracy, ious)

    def _note(self, failures: list[tuple[str, str]], reporter: Reporter) -> None:
        for name, message in failures:
            if name not in self.outcome.failures:
                self.outcome.failures[name] = message
                reporter.say(f"left out: {message}")


class _Window:
    """Time since the last line of the logs."""

    def __init__(self) -> None:
        self._since = perf_counter()

    def pause(self, seconds: float) -> None:
        """Time that is not training's."""
        self._since += seconds

    def values(self, loss: float, norm: float, rate: float, images: int) -> dict[str, float]:
        """A line of the logs; the device has done what it is about."""
        return {
            "loss": loss,
            "lr": rate,
            "gradient_norm": norm,
            "images_per_second": images / max(1e-9, perf_counter() - self._since),
        }
