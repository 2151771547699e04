"""A data set in the memory of a device: photographs decoded once, and augmented there.

The crops are those of `training_loader`, sample by sample: the same photograph, and the same draws
from (seed, number) alone. Only what is rounded differs, by one level of 255: PyTorch's resizing of
8-bit images rounds twice, rows and columns one after the other, and here it is once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from .._images import image_size
from .._memory import available_memory
from ..data import VOID, Entry, SampleError, SegmentationDataset
from ..models.preprocessing import Preprocessing
from .augmentation import Draw, draw
from .samples import ATTEMPTS, DeviceBatch, entry_index, sample_chance

if TYPE_CHECKING:
    from .config import Config

COLUMNS = 3 + len(Draw._fields)
"""Numbers of a sample, see `DeviceSamples.draws`."""

_BYTES = 4  # of a pixel: red, green, blue, label


class DoesNotFitError(ValueError):
    """The photographs take more memory than they may."""


class DeviceSamples:
    """The photographs and labels of a data set on a device, and crops of them.

    A pixel is one int32 whose bytes are red, green, blue and the label, so that a crop reads its
    four corners and its label as five numbers, not as thirteen bytes.

    Attributes:
        failures: (name, message) of samples that cannot be used; others are taken for them.

    Raises:
        DoesNotFitError: they need more than `data.device_memory`, or than half of what is free.
        SampleError: one cannot be used, and the configuration says "stop".
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        config: Config,
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        self.augmentation, self.seed = config.augmentation, config.seed
        self.layout = torch.channels_last if config.channels_last else torch.contiguous_format
        pixels = [_pixels(entry) for entry in dataset.entries]
        _check_room(_BYTES * sum(pixels), config.data.device_memory, device)
        self._names = [entry.name for entry in dataset.entries]
        self._first = [0, *np.cumsum(pixels).tolist()]
        self._sizes, errors, packed = self._read(dataset)
        if errors and config.data.on_bad_sample == "stop":
            raise errors[min(errors)]
        self.failures = [(self._names[i], str(errors[i])) for i in sorted(errors)]
        self._bad = errors
        self._pixels = packed.to(device)
        self._steps = torch.arange(config.augmentation.crop, device=device)
        self._reversed = preprocessing.channel_order == "BGR"
        self._mean = torch.tensor(preprocessing.mean, device=device)
        self._std = torch.tensor(preprocessing.std, device=device)
        self._scale = preprocessing.scale / 255

    def _read(
        self, dataset: SegmentationDataset
    ) -> tuple[list[tuple[int, int]], dict[int, SampleError], torch.Tensor]:
        """Height and width of every photograph, what is wrong with some, all pixels in a row."""
        packed = torch.empty(self._first[-1], dtype=torch.int32)
        there = packed.numpy().view(np.uint8).reshape(-1, _BYTES)
        sizes = [(0, 0)] * len(dataset)
        errors: dict[int, SampleError] = {}

        def read(index: int) -> None:
            try:
                image, labels = dataset.reader.read_arrays(dataset.entries[index])
            except SampleError as error:
                errors[index] = error
                return
            part = there[self._first[index] : self._first[index + 1]]
            part[:, :3], part[:, 3] = image.reshape(-1, 3), labels.reshape(-1)
            sizes[index] = (labels.shape[0], labels.shape[1])

        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # decoders release the GIL
            for _ in pool.map(read, range(len(dataset))):
                pass
        return sizes, errors, packed

    def draws(self, numbers: Sequence[int]) -> np.ndarray:
        """(B, 10) float64 for samples of these numbers: where each lies, and its `Draw`.

        Index of its first pixel, height and width, and those of the draw. float64 holds every
        index below 2^53, and one array is one copy to the device.

        Raises SampleError where a sample and those taken for it are no use.
        """
        rows = []
        for number in numbers:
            index = self.index(number)
            size = self._sizes[index]
            drawn = draw(size, self.augmentation, sample_chance(self.seed, number))
            rows.append((self._first[index], *size, *drawn))
        return np.array(rows, np.float64).reshape(-1, COLUMNS)

    def names(self, numbers: Iterable[int]) -> list[str]:
        """Of the photographs of samples."""
        return [self._names[self.index(number)] for number in numbers]

    def index(self, number: int) -> int:
        """Place of a sample in the data set, as `TrainingSamples` has it."""
        for attempt in range(ATTEMPTS):
            index = entry_index(self.seed, number, attempt, len(self._names))
            if index not in self._bad:
                return index
        raise self._bad[index]

    def crops(self, draws: torch.Tensor) -> DeviceBatch:
        """Crops of the photographs that `draws` (B, 10) float64, on the device, names.

        Nothing here waits for the device, and nothing of the host's but `draws` changes.
        """
        whole = draws[:, :8].long()[:, :, None]
        first, height, width, new_height, new_width, top, left, mirror = whole.unbind(1)
        rows = top + self._steps  # (B, crop), of the scaled photograph
        columns = left + torch.where(mirror > 0, self._steps.flip(0), self._steps)
        inside = (rows < new_height)[:, :, None] & (columns < new_width)[:, None, :]
        y = torch.minimum(rows * height // new_height, height - 1)
        x = torch.minimum(columns * width // new_width, width - 1)
        labels = self._at(first + y * width, x)[..., 3].masked_fill(~inside, VOID)
        above, below, v = _corners(rows, height, new_height)
        before, after, u = _corners(columns, width, new_width)
        u, v = u[:, None, :, None], v[:, :, None, None]
        upper, lower = (
            torch.lerp(self._levels(start, before), self._levels(start, after), u)
            for start in (first + above * width, first + below * width)
        )
        levels = torch.lerp(upper, lower, v).round_()
        if self.augmentation.brightness or self.augmentation.contrast:
            gain, offset = draws[:, 8:, None, None, None].float().unbind(1)
            levels = levels.sub_(127.5).mul_(gain).add_(127.5 + offset).round_().clamp_(0, 255)
        # the same sums as `Preprocessing`'s, whose constants come from the host
        if self._reversed:
            levels = levels.flip(3)
        if self._scale != 1:
            levels *= self._scale
        x_in = levels.sub_(self._mean).div_(self._std).masked_fill_(~inside[..., None], 0)
        return DeviceBatch(x_in.permute(0, 3, 1, 2).contiguous(memory_format=self.layout), labels)

    def _levels(self, start: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(B, crop, crop, 3) float32, RGB."""
        return self._at(start, columns)[..., :3].float()

    def _at(self, start: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(B, crop, crop, 4) uint8 of pixels `start` (B, crop) + `columns` (B, crop)."""
        found = torch.take(self._pixels, start[:, :, None] + columns[:, None, :])
        return found.view(torch.uint8).view(*found.shape, _BYTES)


def _corners(
    at: torch.Tensor, old: torch.Tensor, new: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows (or columns) on both sides of scaled ones `at` (B, n), and the share of the second.

    By pixel centres: (at + 1/2) old / new - 1/2, not before the first one nor after the last.
    """
    source = ((at.double() + 0.5) * (old.double() / new.double()) - 0.5).clamp(min=0)
    low = torch.minimum(source.long(), old - 1)
    return low, torch.minimum(low + 1, old - 1), (source - low).clamp(max=1).float()


def _pixels(entry: Entry) -> int:
    """Of a photograph; 0 where its file says nothing, which reading it will tell."""
    try:
        width, height = image_size(entry.image)
    except (ValueError, OSError):
        return 0
    return width * height


def _check_room(size: int, limit: float, device: torch.device) -> None:
    if size > limit * 1e9:
        raise DoesNotFitError(
            f"the photographs take {size / 1e9:.2f} GB, and data.device_memory is {limit:g}"
        )
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    if free is not None and 2 * size > free:
        raise DoesNotFitError(
            f"the photographs take {size / 1e9:.2f} GB, more than half of the {free / 1e9:.2f} GB "
            f"that are free on {device}"
        )
