"""What `refine` makes of masks and label maps as people have them: mean IoU before and after.

    python benchmarks/refine_on_voc_masks.py DATA_FOLDER [--every 4] [--json result.json]

The photos, labels and score maps are those of crf_on_voc_scores.py, whose protocol the figures
follow. Each image's labels come from

    net         the net's scores, interpolated: the label map that it would give
    net, cells  that label map in cells of 16 x 16 pixels, the most frequent label of each
    drawn       the true labels in such cells, as an outline drawn with few clicks

and, beside what is between net and CRF where its scores are kept,

    scores      the net's probabilities

The first 40 images were used to choose the defaults (`--choose` prints what was compared there), so
figures are those of the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn import functional

from _timing import machine_info, write_json
from crf_on_voc_scores import NUM_LABELS, VOID, confusion, figures, load
from deeplab_native import CRFParams, refine

CHOSEN_ON = 40
CELL = 16
CONFIDENCES = (0.6, 0.7, 0.8)
PARAMS = {
    "voc-resnet101": CRFParams.preset("voc-resnet101"),
    "4/67/3/3/3": CRFParams(4, 67, 3, 3, 3),
    "densecrf-script": CRFParams.preset("densecrf-script"),
}


def in_cells(labels: torch.Tensor) -> torch.Tensor:
    """(H, W): the most frequent label of each 16 x 16 pixels; void counts as background."""
    hot = functional.one_hot(labels.masked_fill(labels == VOID, 0), NUM_LABELS).permute(2, 0, 1)
    cells = functional.avg_pool2d(hot[None].float(), CELL, ceil_mode=True).argmax(1)[0]
    height, width = labels.shape
    return cells.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)[:height, :width]


def given(logits: torch.Tensor, truth: np.ndarray) -> dict[str, torch.Tensor]:
    """What is refined, by its name."""
    net = logits[0].argmax(0)
    return {
        "net": net,
        "net, cells": in_cells(net),
        "drawn": in_cells(torch.from_numpy(truth.astype(np.int64))),
        "scores": logits[0].softmax(0),
    }


def labels_of(values: torch.Tensor) -> np.ndarray:
    return (values if values.ndim == 2 else values.argmax(0)).numpy()


def measure(folder: Path, names: list[str], hows: dict[str, dict]) -> dict[str, dict[str, dict]]:
    """Figures by what was given, before and after each way to refine it."""
    counts: dict[tuple[str, str], np.ndarray] = {}
    for name in track(names, "Refining", transient=True):
        logits, image, truth = load(folder, name)
        for what, values in given(logits, truth).items():
            results = {"before": labels_of(values)}
            for how, arguments in hows.items():
                results[how] = refine(image[0], values, **arguments).numpy()
            for how, labels in results.items():
                counts[what, how] = counts.get((what, how), 0) + confusion(truth, labels)
    found: dict[str, dict[str, dict]] = {}
    for (what, how), count in counts.items():
        found.setdefault(what, {})[how] = figures(count)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth image alone")
    parser.add_argument("--choose", action="store_true", help="parameters, on the first 40 images")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    names = (options.folder / "ids.txt").read_text().split()
    names = (names[:CHOSEN_ON] if options.choose else names[CHOSEN_ON:])[:: options.every]
    hows: dict[str, dict] = {"after": {}}
    if options.choose:
        hows = {
            f"{name} {confidence}": {"params": params, "confidence": confidence}
            for name, params in PARAMS.items()
            for confidence in CONFIDENCES
        }
    found = measure(options.folder, names, hows)
    table = Table(title=f"mean IoU of seven classes, accuracy, {len(names)} images")
    for column in ("given", *next(iter(found.values()))):
        table.add_column(column, justify="left" if column == "given" else "right")
    for what, by_how in found.items():
        table.add_row(what, *(f"{f['miou7']:.2f}, {f['acc']:.2f}" for f in by_how.values()))
    Console().print(table)
    if options.json:
        write_json(options.json, {"machine": machine_info(), "images": len(names), **found})


if __name__ == "__main__":
    main()
