"""What a run writes down: CSV for people and scripts, events for TensorBoard."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import viz
from .._files import atomic_path, named

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TRAINING, VALIDATION = "training.csv", "validation.csv"
PICTURES, EVENTS = "pictures", "tensorboard"


class CSVLog:
    """Rows by iteration, each on disk once it is written.

    Rows of later iterations than `start` are of a run that went on from a checkpoint before them:
    they are dropped.

    Attributes:
        last: iteration of the last row; None without one.
    """

    def __init__(self, path: Path, columns: Sequence[str], start: int) -> None:
        rows = []
        if path.exists():
            text = path.read_bytes().decode("utf-8", errors="replace")
            whole = text[: text.rfind("\n") + 1]  # a crash may have cut off what comes then
            rows = [
                row
                for row in list(csv.reader(io.StringIO(whole, newline="")))[1:]
                if len(row) == len(columns) and row[0].isdecimal() and int(row[0]) <= start
            ]
        self.last = int(rows[-1][0]) if rows else None
        with (
            atomic_path(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([columns, *rows])
        self._path = path
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)

    def write(self, values: Sequence[object]) -> None:
        """Appends a row, the iteration first; it is on disk (fsync) when this returns."""
        with named(self._path):
            self._writer.writerow([f"{v:.8g}" if isinstance(v, float) else v for v in values])
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; the rows are on disk already."""
        with named(self._path):
            self._file.close()


class Logs:
    """`training.csv`, `validation.csv`, `pictures/` and `tensorboard/` in a folder."""

    def __init__(self, folder: Path, classes: Sequence[str], start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.classes = classes
        columns = ("iteration", "loss", "lr", "gradient_norm", "images_per_second")
        self._training = CSVLog(folder / TRAINING, columns, start)
        per_class = ("iteration", "mean_iou", "pixel_accuracy", *classes)
        self._validation = CSVLog(folder / VALIDATION, per_class, start)
        with named(folder / EVENTS):
            self._events: SummaryWriter = SummaryWriter(str(folder / EVENTS), purge_step=start + 1)

    def step(self, iteration: int, values: Mapping[str, float]) -> None:
        """Of training; the keys are the columns."""
        self._training.write([iteration, *values.values()])
        with named(self.folder / EVENTS):
            for name, value in values.items():
                self._events.add_scalar(f"training/{name}", value, iteration)

    def validation(
        self, iteration: int, mean_iou: float, pixel_accuracy: float, class_iou: Sequence[float]
    ) -> None:
        """A row of `validation.csv`, and the same for TensorBoard; what a validation ends with.

        mean_iou, pixel_accuracy and class_iou, one for each class, are shares of 1; NaN stays NaN.
        """
        with named(self.folder / EVENTS):
            self._events.add_scalar("validation/mean_iou", mean_iou, iteration)
            self._events.add_scalar("validation/pixel_accuracy", pixel_accuracy, iteration)
            for name, iou in zip(self.classes, class_iou, strict=True):
                self._events.add_scalar(f"validation_iou/{name}", iou, iteration)
        self.flush()
        self._validation.write([iteration, mean_iou, pixel_accuracy, *class_iou])

    def pictures(self, iteration: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Writes (H, W, 3) uint8 pictures by name to `pictures/NAME_ITERATION.png` and TensorBoard.

        A slash in a name becomes an underscore.
        """
        folder = self.folder / PICTURES
        for name, pixels in pictures.items():
            file = folder / f"{name.replace('/', '_')}_{iteration:08d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            viz.save_png(file, pixels)
            with named(self.folder / EVENTS):
                self._events.add_image(f"pictures/{name}", pixels, iteration, dataformats="HWC")

    def is_validated(self, iteration: int) -> bool:
        """Whether an earlier start has written all that a validation gives."""
        return self._validation.last == iteration

    def flush(self) -> None:
        """TensorBoard has what was written so far, as the tables always do."""
        with named(self.folder / EVENTS):
            self._events.flush()

    def close(self) -> None:
        """Closes all files, TensorBoard's with what it still holds."""
        self._training.close()
        self._validation.close()
        with named(self.folder / EVENTS):
            self._events.close()
