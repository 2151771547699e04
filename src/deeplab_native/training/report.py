"""The report of a training: report.html, made of what lies in the folder of the run."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import viz
from .folders import CONFIG
from .logs import PICTURES, TRAINING, VALIDATION

REPORT = "report.html"
_NOT_CLASSES = ("iteration", "mean_iou", "pixel_accuracy")  # columns of validation.csv
_SIDE = 320  # of pictures, in pixels
_MOST_VALIDATIONS = 12  # rows of the table
_SHOTS = ("photograph", "labels", "prediction")  # beside each other in a picture of `logs`


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str | None = None,
    colours: Sequence[tuple[str, Sequence[int]]] = (),
    command: str | None = None,
    machine: Mapping[str, str] | None = None,
) -> Path:
    """Writes `folder`/report.html of a run, whole or not at all, also of one that is going on.

    Args:
        folder: of `train`, with `training.csv`.
        title: of the report; None: the folder's name.
        colours: class names with their colours (RGB) in the pictures.
        command: what repeats the run.
        machine: facts beside the processor.

    Raises OSError where the folder has no logs, ValueError where they are damaged.
    """
    folder = Path(folder)
    steps = _columns(folder / TRAINING)
    checks = _columns(folder / VALIDATION) if (folder / VALIDATION).exists() else {}
    html = viz.HTMLReport("Training", title or folder.resolve().name, command, machine or {})
    done = steps["iteration"]
    validated = bool(len(checks.get("iteration", ())))
    if validated:
        html.headline("mean IoU", _percent(checks["mean_iou"][-1]), _best(checks))
        html.headline("pixel accuracy", _percent(checks["pixel_accuracy"][-1]))
    if len(done):
        html.headline("loss", f"{steps['loss'][-1]:.4f}", f"{steps['loss'][0]:.4f} at the start")
        html.headline("iterations", f"{done[-1]:,.0f}")
        html.section("Loss and learning rate")
        html.figure(
            viz.draw_curves(
                {"loss": (done, steps["loss"])}, x_label="iteration", y_label="loss", smooth=True
            ),
            f"Line: the loss by iteration, of {TRAINING}.",
        )
        html.figure(
            viz.draw_curves(
                {"learning rate": (done, steps["lr"])},
                x_label="iteration",
                y_label="learning rate",
            ),
            f"Line: the learning rate by iteration, of {TRAINING}.",
        )
    if validated:
        _validation(html, checks)
    _pictures(html, folder / PICTURES, colours)
    if (folder / CONFIG).exists():
        html.section("Configuration")
        html.code((folder / CONFIG).read_text(encoding="utf-8").rstrip())
    html.write(folder / REPORT)
    return folder / REPORT


def machine_of(device: torch.device) -> dict[str, str]:
    """Facts beside the processor: the GPU where one is used."""
    return {} if device.type == "cpu" else {"GPU": torch.cuda.get_device_name(device)}


def _validation(html: viz.HTMLReport, checks: Mapping[str, np.ndarray]) -> None:
    done = checks["iteration"]
    html.section("Validation")
    html.figure(
        viz.draw_curves(
            {
                "mean IoU": (done, 100 * checks["mean_iou"]),
                "pixel accuracy": (done, 100 * checks["pixel_accuracy"]),
            },
            x_label="iteration",
            y_label="%",
        ),
        f"Lines: mean IoU and pixel accuracy by iteration, of {VALIDATION}.",
    )
    shown = range(max(0, len(done) - _MOST_VALIDATIONS), len(done))
    html.table(
        ["iteration", "mean IoU", "pixel accuracy"],
        [
            [f"{done[i]:,.0f}", _percent(checks["mean_iou"][i]),
             _percent(checks["pixel_accuracy"][i])]
            for i in shown
        ],
        note=f"The last of {len(done)}." if len(done) > len(shown) else "",
    )  # fmt: skip
    classes = [name for name in checks if name not in _NOT_CLASSES]
    if not classes:
        return
    last = [float(checks[name][-1]) for name in classes]
    html.section("IoU of every class, at the end")
    html.figure(
        viz.draw_class_iou({"IoU": last}, classes, means={"IoU": float(checks["mean_iou"][-1])}),
        "Bars: the IoU of every class at the last validation.",
    )
    rows = [[name, _percent(iou)] for name, iou in zip(classes, last, strict=True)]
    html.table(["class", "IoU"], rows)


def _pictures(
    html: viz.HTMLReport, folder: Path, colours: Sequence[tuple[str, Sequence[int]]]
) -> None:
    """Of the last validation."""
    files = sorted(folder.glob("*_????????.png")) if folder.is_dir() else []
    if not files:
        return
    last = max(file.stem[-8:] for file in files)
    html.section("Predictions")
    html.text(f"After {int(last):,} iterations; void is white.")
    html.colours(colours)
    for file in files:
        if file.stem.endswith(f"_{last}"):
            html.gallery(file.stem[:-9], _shots(file))


def _shots(file: Path) -> Iterator[viz.Shot]:
    with Image.open(file) as image:
        pixels = image.convert("RGB")
    width = pixels.width // len(_SHOTS)
    for i, caption in enumerate(_SHOTS):
        shot = pixels.crop((i * width, 0, (i + 1) * width, pixels.height))
        shot.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
        yield viz.Shot(caption, np.asarray(shot))


def _columns(path: Path) -> dict[str, np.ndarray]:
    """By their names, in float64; raises ValueError where a row is cut off."""
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    try:
        values = np.array(rows, np.float64).reshape(len(rows), len(head))
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error} (remove its last line)") from None
    return dict(zip(head, values.T, strict=True))


def _best(checks: Mapping[str, np.ndarray]) -> str:
    at = int(np.nanargmax(checks["mean_iou"]))
    if at == len(checks["mean_iou"]) - 1:
        return "the best so far" if at else ""
    return f"{_percent(checks['mean_iou'][at])} at {checks['iteration'][at]:,.0f}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f} %"
