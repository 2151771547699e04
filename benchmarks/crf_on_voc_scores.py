"""Does the CRF help real network scores as much as pydensecrf's does?

296 PASCAL VOC 2012 val images with the 33x33 score maps of a DeepLabv3-MobileNetV2 (the data
folder's README.md says where they are from; they are not part of this repository):

    python benchmarks/crf_on_voc_scores.py DATA_FOLDER --json result.json

Protocol: logits = (logits_q - zero) * scale, upsampled from 33x33 to 513x513 with aligned corners,
cut to the image. A pixel's label is the largest of all 21. One 21x21 confusion matrix is summed
over the pixels of all images, but for those labelled 255. The mean IoU is that of seven classes;
pixels of the 14 other ones count in it, as misses and false alarms of the seven, and in the
accuracy.

Exit code 1 where a figure is more than 0.05 away from expected.json (pydensecrf's figures).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch.nn import functional

from _timing import machine_info, write_json
from deeplab_native import CRFParams, dense_crf

NUM_LABELS = 21
CLASSES = (0, 8, 10, 12, 13, 15, 17)  # background, cat, cow, dog, horse, person, sheep
VOID = 255
CANVAS = 513
PARAMS = CRFParams(w1=4, sigma_alpha=67, sigma_beta=3, w2=3, sigma_gamma=3)
ITERATIONS = 10
TOLERANCE = 0.05  # percentage points


def load(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Logits (1, 21, H, W) float32, image (1, 3, H, W) uint8 and labels (H, W) of one image."""
    with np.load(folder / "scores" / f"{name}.npz") as file:
        height, width = (int(n) for n in file["hw"])
        # subtracted as float32: the stored values are unsigned
        logits = (file["logits_q"].astype(np.float32) - np.float32(file["zero"])) * file["scale"]
    scores = torch.from_numpy(logits).permute(2, 0, 1)[None]
    canvas = functional.interpolate(
        scores, size=(CANVAS, CANVAS), mode="bilinear", align_corners=True
    )
    with Image.open(folder / "images" / f"{name}.jpg") as file:
        image = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)[None]
    with Image.open(folder / "labels" / f"{name}.png") as file:
        labels = np.array(file)
    return canvas[..., :height, :width].contiguous(), image.contiguous(), labels


def confusion(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(21, 21) pixel counts: row = label, column = prediction; void pixels are left out."""
    known = labels != VOID
    pairs = labels[known].astype(np.int64) * NUM_LABELS + predicted[known]
    return np.bincount(pairs, minlength=NUM_LABELS**2).reshape(NUM_LABELS, NUM_LABELS)


def figures(counts: np.ndarray) -> dict[str, float]:
    """Mean IoU of the seven classes and pixel accuracy, in percent."""
    hits = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - hits
    classes = [c for c in CLASSES if union[c]]  # all seven, except with --limit
    return {
        "miou7": float((hits[classes] / union[classes]).mean() * 100),
        "acc": float(hits.sum() / counts.sum() * 100),
    }


def run(folder: Path, names: list[str]) -> tuple[dict[str, dict[str, float]], list[float]]:
    """The figures before and after the CRF, and the seconds of the CRF on each image."""
    counts = {when: np.zeros((NUM_LABELS, NUM_LABELS), np.int64) for when in ("before", "after")}
    seconds = []
    progress = Progress(
        TextColumn("dense CRF"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with progress:
        for name in progress.track(names):
            logits, image, labels = load(folder, name)
            unary = -logits.log_softmax(1)
            start = perf_counter()
            q = dense_crf(unary, image, PARAMS, iterations=ITERATIONS)
            seconds.append(perf_counter() - start)
            counts["before"] += confusion(labels, logits[0].argmax(0).numpy())
            counts["after"] += confusion(labels, q[0].argmax(0).numpy())
    return {when: figures(c) for when, c in counts.items()}, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the data, with ids.txt and expected.json")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--limit", type=int, help="first N images only; compares nothing")
    parser.add_argument("--json", type=Path, help="also write the result there")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    names = (arguments.folder / "ids.txt").read_text().split()[: arguments.limit]
    expected = json.loads((arguments.folder / "expected.json").read_text())

    result, seconds = run(arguments.folder, names)

    table = Table("", "mean IoU (7)", "accuracy", title=f"{len(names)} images")
    for when, row in result.items():
        table.add_row(when, f"{row['miou7']:.4f}", f"{row['acc']:.4f}")
        if arguments.limit is None:
            known = expected[when]
            table.add_row(
                "  pydensecrf", f"{known['miou7']:.4f}", f"{known['acc']:.4f}", style="dim"
            )
    console = Console(highlight=False)
    console.print(table)
    machine = machine_info()
    console.print(
        f"{np.median(seconds) * 1e3:.1f} ms per image (median; mean {np.mean(seconds) * 1e3:.1f}), "
        f"{machine['threads']} threads, {machine['isa']}"
    )
    if arguments.json:
        record = {
            "machine": machine,
            "images": len(names),
            "params": asdict(PARAMS),
            "iterations": ITERATIONS,
            **result,
            "median_seconds": float(np.median(seconds)),
            "mean_seconds": float(np.mean(seconds)),
        }
        write_json(arguments.json, record)
    if arguments.limit is not None:
        return 0
    off = max(
        abs(result[when][key] - expected[when][key]) for when in result for key in expected[when]
    )
    console.print(f"largest difference: {off:.4f} (at most {TOLERANCE})")
    return int(off > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
