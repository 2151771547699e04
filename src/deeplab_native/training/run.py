"""The loop: from a configuration to trained weights, and on from where it was interrupted.

The loop is our own on Lightning Fabric, which brings processes, devices and precision: the paper's
schedule counts updates, not epochs, and a checkpoint must hold nothing but tensors and JSON.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed, nn

from ..weights import save
from .checkpoints import State, save_checkpoint
from .config import Config
from .ema import WeightAverage
from .folders import check_folder, prepare, restore
from .interruption import Interruption
from .logs import Logs
from .loss import TrainingLoss
from .optimizer import make_optimizer, set_learning_rate
from .progress import Reporter
from .samples import Batch, training_loader
from .schedule import learning_rate
from .setup import build_model, describe_data, open_data
from .validation import Validated, chosen_images, validate

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from ..metrics import SegmentationScores

WEIGHTS, CHECKPOINTS = "net.safetensors", "checkpoints"
_DROPOUT = 3  # stream of random numbers, beside those of `samples`


@dataclass
class Outcome:
    """Of a run.

    Attributes:
        iteration: updates so far.
        weights: the file, or None where the run was interrupted.
        scores: of the last validation, or None.
        failures: name -> message of samples that could not be used, as far as this process saw.
        interrupted_by: number of the signal, 0 for none.
    """

    iteration: int
    weights: Path | None = None
    scores: SegmentationScores | None = None
    failures: dict[str, str] = field(default_factory=dict)
    interrupted_by: int = 0


class Run:
    """A run in a folder; `train` is the way to use it."""

    def __init__(self, config: Config, out: Path, fabric: Fabric) -> None:
        self.config, self.out, self.fabric = config, out, fabric
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.data = open_data(config)
        net = build_model(config, len(self.data.train.classes))
        describe_data(net, self.data.train, config)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.net = net.to(fabric.device, memory_format=layout)
        self.loss = TrainingLoss(self.net, config.loss, channels_last=config.channels_last)
        average = None if config.ema is None else WeightAverage(self.net, config.ema)
        self.state = State(self.net, make_optimizer(self.net, config.optimizer), average)
        self.outcome = Outcome(0)
        # of the parameters that are trained at all
        groups = self.state.optimizer.param_groups
        self._parameters = [p for group in groups for p in group["params"]]
        trunk = [group for group in groups if group["name"].startswith("trunk")]
        self._trunk = [p for group in trunk for p in group["params"]]

    def train(self, interruption: Interruption) -> Outcome:
        """From `state.iteration` on to the end, or to a signal."""
        first = self.fabric.is_global_zero
        start = self.state.iteration
        logs = Logs(self.out, self.data.train.classes, start) if first else None
        with Reporter(self.config.iterations, start, quiet=not first) as reporter:
            try:
                for phase in self._phases():
                    self._train_phase(phase, logs, reporter, interruption)
                    if self.outcome.interrupted_by:
                        break
            finally:
                if logs is not None:
                    logs.close()
        self.outcome.iteration = self.state.iteration
        if not self.outcome.interrupted_by and first:
            self.outcome.weights = self.out / WEIGHTS
            with self._averaged():
                save(self.net, self.outcome.weights)
        return self.outcome

    def _phases(self) -> Iterator[tuple[int, int, bool]]:
        """(start, stop, whether the trunk rests) of what is still to do."""
        head = self.config.schedule.head_first.iterations
        for start, stop, rests in ((0, head, True), (head, self.config.iterations, False)):
            start = max(start, self.state.iteration)
            if start < stop:
                yield start, stop, rests

    def _train_phase(
        self,
        phase: tuple[int, int, bool],
        logs: Logs | None,
        reporter: Reporter,
        interruption: Interruption,
    ) -> None:
        config, fabric = self.config, self.fabric
        start, stop, rests = phase
        for parameter in self._trunk:
            parameter.requires_grad_(not rests)
            parameter.grad = None
        # anew in every phase: DistributedDataParallel waits for every parameter with a gradient
        module = fabric.setup_module(self.loss)
        loader = training_loader(
            self.data.train,
            config,
            rank=fabric.global_rank,
            processes=fabric.world_size,
            start=start,
            stop=stop,
            pin_memory=fabric.device.type == "cuda",
        )
        self.net.train()
        batches = iter(loader)
        window = _Window()
        for iteration in range(start, stop):
            rate = learning_rate(config.schedule, config.optimizer, iteration)
            loss, norm = self._update(module, batches, rate, reporter)
            self.state.iteration = done = iteration + 1
            window.add(loss, norm, config.batch)
            reporter.step(done)
            if done % config.log_every == 0 or done == config.iterations:
                self._log(done, rate, window, logs, reporter)
                window = _Window()
            received = self._agreed(interruption.signal)
            last = done == config.iterations
            if last or (config.validation.every and done % config.validation.every == 0):
                before = perf_counter()
                self._validate(done, logs, reporter)
                window.pause(perf_counter() - before)
            if done % config.checkpoints.every == 0 or last or received:
                self._save_checkpoint()
            if received and not last:
                self.outcome.interrupted_by = received
                return

    def _update(
        self, module: Any, batches: Iterator[Batch], rate: float, reporter: Reporter
    ) -> tuple[float, float]:
        """One step of the optimizer: loss and norm of the gradient (NaN where it is not needed)."""
        config, fabric, optimizer = self.config, self.fabric, self.state.optimizer
        set_learning_rate(optimizer, rate)
        # dropout: by iteration and process, whatever was drawn before
        entropy = (config.seed, _DROPOUT, self.state.iteration, fabric.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0]))
        total = torch.zeros((), device=fabric.device)
        names: list[str] = []
        for i in range(config.accumulate):
            batch = next(batches)
            self._note_failures(batch.failures, reporter)
            names += batch.names
            batch = batch._replace(
                images=batch.images.to(fabric.device, non_blocking=True),
                labels=batch.labels.to(fabric.device, non_blocking=True),
            )
            with fabric.no_backward_sync(module, enabled=i + 1 < config.accumulate):
                loss = module(batch) / config.accumulate
                fabric.backward(loss)
            total += loss.detach()
        if fabric.world_size > 1:
            distributed.all_reduce(total)
            total /= fabric.world_size
        value = float(total)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"iteration {self.state.iteration + 1}: the loss is {value} at lr {rate:.4g}, with "
                f"{', '.join(names)} (take a lower optimizer.lr, or set optimizer.clip)"
            )
        norm = math.nan
        if config.optimizer.clip is not None:
            norm = float(nn.utils.clip_grad_norm_(self._parameters, config.optimizer.clip))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if self.state.average is not None:
            self.state.average.update()
        return value, norm

    def _log(
        self, done: int, rate: float, window: _Window, logs: Logs | None, reporter: Reporter
    ) -> None:
        values = window.means(rate)
        reporter.log(done, loss=values["loss"], lr=rate, rate=values["images_per_second"])
        if logs is not None:
            logs.step(done, values)

    def _validate(self, done: int, logs: Logs | None, reporter: Reporter) -> None:
        """All processes, each its share of the images."""
        dataset, options, fabric = self.data.val, self.config.validation, self.fabric
        if dataset is None:
            return
        mine = chosen_images(len(dataset), options.images)[fabric.global_rank :: fabric.world_size]
        with self._averaged(), reporter.images("validate", len(mine)) as progress:
            result: Validated = validate(
                self.net,
                dataset,
                mine,
                device=fabric.device,
                autocast=fabric.autocast,
                channels_last=self.config.channels_last,
                pictures=options.pictures if fabric.is_global_zero else 0,
                skip_bad=self.config.data.on_bad_sample == "skip",
                progress=progress,
            )
        self._note_failures(result.failures, reporter)
        if fabric.world_size > 1:
            counts = result.counts.to(fabric.device)
            distributed.all_reduce(counts)
            result.counts = counts.cpu()
        scores = self.outcome.scores = result.scores()
        reporter.say(
            f"iteration {done}: mean IoU {100 * scores.mean_iou:.2f} %, "
            f"pixel accuracy {100 * scores.pixel_accuracy:.2f} %"
        )
        if logs is not None:
            ious = scores.class_iou.tolist()
            logs.validation(done, scores.mean_iou, scores.pixel_accuracy, ious)
            logs.pictures(done, result.pictures)

    def _save_checkpoint(self) -> None:
        if self.fabric.is_global_zero:
            save_checkpoint(
                self.out / CHECKPOINTS,
                self.state,
                {"config": self.config.model_dump(mode="json")},
                keep=self.config.checkpoints.keep,
            )

    def _averaged(self) -> Any:
        from contextlib import nullcontext

        return nullcontext() if self.state.average is None else self.state.average.applied()

    def _agreed(self, number: int) -> int:
        """The signal that any process received, so that all stop after the same update."""
        if self.fabric.world_size == 1:
            return number
        signals = torch.tensor(number, device=self.fabric.device)
        distributed.all_reduce(signals, op=distributed.ReduceOp.MAX)
        return int(signals)

    def _note_failures(self, failures: list[tuple[str, str]], reporter: Reporter) -> None:
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
        self._since += seconds

    def means(self, rate: float) -> dict[str, float]:
        return {
            "loss": self._loss / self._updates,
            "lr": rate,
            "gradient_norm": self._norm / self._updates,
            "images_per_second": self._images / max(1e-9, perf_counter() - self._since),
        }


def train(config: Config, out: Path, *, resume: bool = False) -> Outcome:
    """Trains a net as the configuration says.

    Args:
        config: of `load_config`.
        out: folder for weights, checkpoints, logs and pictures.
        resume: goes on from the last whole checkpoint there; without one it begins anew.

    Raises:
        ValueError: `out` has another run, or the same without `resume`; data, weights or the net
            do not fit together; what `open_dataset` and `create_model` raise.
        SampleError: a sample cannot be used, and the configuration says "stop".
        FloatingPointError: the loss is no longer finite.
        OSError: something cannot be read or written.
    """
    check_folder(out, resume=resume)
    fabric = _fabric(config)
    with Interruption() as interruption:
        run = Run(config, out, fabric)
        if resume:
            restore(out / CHECKPOINTS, run.state, config)
        fabric.barrier()  # all have looked at the folder
        if fabric.is_global_zero:
            prepare(out, config)
        return run.train(interruption)


def _fabric(config: Config) -> Fabric:
    from lightning.fabric import Fabric

    devices = config.devices
    if devices == "auto" and (config.accelerator == "cpu" or not torch.cuda.is_available()):
        devices = 1
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=devices,
        num_nodes=config.nodes,
        strategy="auto" if devices == 1 and config.nodes == 1 else "ddp",
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def exit_code(number: int) -> int:
    """Of a process that a signal ended, as shells count."""
    return 128 + (number or signal.SIGINT)
