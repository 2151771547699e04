"""Which samples an update sees, and with which chance: the same for any number of processes.

Sample n of a run (n = 0, 1, ... over all updates) is a fixed photograph, and its augmentation is
drawn from (seed, n) alone. So a run that goes on from a checkpoint, or runs on other machines with
other worker processes, sees what it would have seen.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data import Entry, SampleError, SegmentationDataset
from .augmentation import Crop, augment

if TYPE_CHECKING:
    from .config import Config

_ORDER, _CHANCE, _INSTEAD = 0, 1, 2  # streams of random numbers
ATTEMPTS = 6  # samples that are tried before one is given up


class Batch(NamedTuple):
    """Crops of a forward pass.

    Attributes:
        images: (B, 3, crop, crop) uint8, RGB.
        labels: (B, crop, crop) uint8.
        inside: of every crop, see `Crop`.
        names: of the photographs.
        failures: (name, message) of samples that could not be used, and were replaced.
    """

    images: torch.Tensor
    labels: torch.Tensor
    inside: list[tuple[int, int, int]]
    names: list[str]
    failures: list[tuple[str, str]]


class DeviceBatch(NamedTuple):
    """Crops of a forward pass that are ready for the net, on its device.

    Attributes:
        input: (B, 3, crop, crop) float32, preprocessed; 0 (the mean colour) outside of the images.
        labels: (B, crop, crop) uint8.
    """

    input: torch.Tensor
    labels: torch.Tensor


def sample_index(seed: int, number: int, size: int) -> int:
    """Place in the data set of sample `number`: every photograph once an epoch, shuffled."""
    epoch, place = divmod(number, size)
    return int(_permutation(seed, epoch, size)[place])


def entry_index(seed: int, number: int, attempt: int, size: int) -> int:
    """Place of sample `number`; of what is taken for it where `attempt` others were no use."""
    if attempt == 0:
        return sample_index(seed, number, size)
    random = np.random.default_rng((seed, _INSTEAD, number, attempt))
    return int(random.integers(size))


def sample_chance(seed: int, number: int) -> np.random.Generator:
    """What sample `number` is augmented with."""
    return np.random.default_rng((seed, _CHANCE, number))


_last: tuple[tuple[int, int, int], np.ndarray] | None = None


def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    global _last
    if _last is None or _last[0] != (seed, epoch, size):
        order = np.random.default_rng((seed, _ORDER, epoch)).permutation(size)
        _last = (seed, epoch, size), order
    return _last[1]


class Read(NamedTuple):
    """A sample that was read; `failures` are (name, message) of those that it stands in for."""

    crop: Crop
    name: str
    failures: list[tuple[str, str]]


class TrainingSamples(Dataset[Read | SampleError]):
    """Sample n of a run, read and augmented.

    A SampleError is returned where it cannot be used and the configuration says "stop", or "skip",
    and none of the five that were taken instead can be. (A worker process that raises it would
    bury it in a traceback.)
    """

    def __init__(self, dataset: SegmentationDataset, config: Config) -> None:
        self.dataset = dataset
        self.augmentation = config.augmentation
        self.seed = config.seed
        self.skip = config.data.on_bad_sample == "skip"

    def __getitem__(self, number: int) -> Read | SampleError:
        failures: list[tuple[str, str]] = []
        while True:
            entry = self._entry(number, len(failures))
            try:
                image, labels = self.dataset.reader.read_arrays(entry)
                break
            except SampleError as error:
                failures.append((entry.name, str(error)))
                if not self.skip or len(failures) == ATTEMPTS:
                    return error
        random = sample_chance(self.seed, number)
        return Read(augment(image, labels, self.augmentation, random), entry.name, failures)

    def _entry(self, number: int, attempt: int) -> Entry:
        index = entry_index(self.seed, number, attempt, len(self.dataset))
        return self.dataset.entries[index]


class Passes(Sampler[list[int]]):
    """Sample numbers of every forward pass of a process, from an iteration on.

    An update takes `batch` samples. Its passes follow one another, and the processes share each
    pass in the order of their ranks; `batch` is a multiple of `accumulate` x `processes`.
    """

    def __init__(
        self, *, batch: int, accumulate: int, rank: int, processes: int, start: int, stop: int
    ) -> None:
        self.accumulate, self.rank, self.processes = accumulate, rank, processes
        self.size = batch // (accumulate * processes)
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        step = self.size * self.processes
        for number in range(self.start * self.accumulate, self.stop * self.accumulate):
            first = number * step + self.rank * self.size
            yield list(range(first, first + self.size))


def collate(samples: list[Read | SampleError]) -> Batch | SampleError:
    """A batch, or the first error among its samples."""
    read = []
    for sample in samples:
        if isinstance(sample, SampleError):
            return sample
        read.append(sample)
    return Batch(
        torch.stack([sample.crop.image for sample in read]),
        torch.stack([sample.crop.labels for sample in read]),
        [sample.crop.inside for sample in read],
        [sample.name for sample in read],
        [failure for sample in read for failure in sample.failures],
    )


def training_loader(
    dataset: SegmentationDataset,
    config: Config,
    *,
    rank: int,
    processes: int,
    start: int,
    stop: int,
    pin_memory: bool = False,
) -> DataLoader[Read | SampleError]:
    """`Batch`es (or `SampleError`s) of the passes of iterations `start` to `stop` - 1."""
    passes = Passes(
        batch=config.batch,
        accumulate=config.accumulate,
        rank=rank,
        processes=processes,
        start=start,
        stop=stop,
    )
    workers = config.data.workers
    return DataLoader(
        TrainingSamples(dataset, config),
        batch_sampler=passes,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
    )


def _start_worker(_: int) -> None:
    # Ctrl-C and SIGTERM reach the whole group: the main process ends the run, and its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(1)  # never in the way of the processes that compute
