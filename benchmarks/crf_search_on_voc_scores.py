"""What a search of the CRF's parameters is worth on real scores that it has not seen.

The 296 PASCAL VOC images and score maps of crf_on_voc_scores.py, whose protocol this keeps:

    python benchmarks/crf_search_on_voc_scores.py DATA_FOLDER --out search/ --json result.json

One third of the images, drawn with --seed, is searched on: the paper's coarse grid and two finer
ones, by the mean IoU of seven classes, as `deeplab-native crf-search` does. The other two thirds
are measured before the CRF, with published parameters and with those found: mean IoU and accuracy,
over all pixels and in PASCAL's trimaps (Figure 10 of the DeepLab paper): the pixels at most
w = 1..40 rows and columns away from one labelled void. --out keeps the search's record: the same
command goes on from there.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn import functional

from _timing import machine_info, write_json
from crf_on_voc_scores import CLASSES, ITERATIONS, NUM_LABELS, VOID, figures, load
from deeplab_native import CRFParams, dense_crf
from deeplab_native.crf.candidates import Fixed, Sample
from deeplab_native.crf.search import Grid
from deeplab_native.jobs._execution import Execution
from deeplab_native.jobs._reports import paste
from deeplab_native.jobs._search import PRELOAD, Plan, run
from deeplab_native.jobs._search_files import Item
from deeplab_native.jobs._search_report import best_record
from deeplab_native.jobs._workers import run_jobs

MOST_W = 40
PUBLISHED = {
    "voc-resnet101": CRFParams.preset("voc-resnet101"),
    "voc-vgg16": CRFParams.preset("voc-vgg16"),
}


class EvaluationJob(NamedTuple):
    item: Item
    params: dict[str, CRFParams | None]  # None: the scores alone


def load_item(item: Item) -> Sample:
    logits, image, labels = _load(item)
    return Sample(-logits.log_softmax(1), image, torch.from_numpy(labels)[None])


def _load(item: Item) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    return load(item.files[0].parent.parent, item.name)


def evaluate(job: EvaluationJob) -> dict[str, np.ndarray]:
    """(MOST_W + 1, 21, 21) counts of each: of the pixels w away from void, the farther ones last.

    In a worker. The CRF is `dense_crf` itself, not what the search shares between candidates.
    """
    torch.set_num_threads(1)
    logits, image, labels = _load(job.item)
    unary = -logits.log_softmax(1)
    distance = distance_from_void(labels)
    known = labels != VOID
    rows = ((distance.astype(np.int64) - 1) * NUM_LABELS + labels)[known] * NUM_LABELS
    counts = {}
    for name, params in job.params.items():
        scores = (
            -unary if params is None else dense_crf(unary, image, params, iterations=ITERATIONS)
        )
        bins = np.bincount(
            rows + scores[0].argmax(0).numpy()[known], minlength=(MOST_W + 1) * NUM_LABELS**2
        )
        counts[name] = bins.reshape(MOST_W + 1, NUM_LABELS, NUM_LABELS)
    return counts


def distance_from_void(labels: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the larger of the rows and columns to the nearest void pixel, up to 41."""
    reached = torch.from_numpy(labels == VOID)[None, None].float()
    distance = torch.zeros_like(reached)
    for _ in range(MOST_W + 1):
        distance += 1 - reached
        reached = functional.max_pool2d(reached, 3, 1, 1)  # w times is the square of side 2 w + 1
    return distance[0, 0].to(torch.uint8).numpy()


def split(names: list[str], seed: int) -> tuple[list[str], list[str]]:
    """One third to search on, and the rest, each in the order of the list."""
    chosen = set(random.Random(seed).sample(names, len(names) // 3))
    return [n for n in names if n in chosen], [n for n in names if n not in chosen]


def items_of(folder: Path, names: list[str]) -> list[Item]:
    return [
        Item(
            name,
            tuple(
                folder / kind / f"{name}{suffix}"
                for kind, suffix in (("images", ".jpg"), ("scores", ".npz"), ("labels", ".png"))
            ),
        )
        for name in names
    ]


def classes_in(items: list[Item]) -> list[int]:
    """Of the seven, those that the labels have: all, except with --limit."""
    present: set[int] = set()
    for item in items:
        with Image.open(item.files[2]) as file:
            present.update(np.unique(np.array(file)).tolist())
    return [c for c in CLASSES if c in present]


def measure(
    items: list[Item], params: dict[str, CRFParams | None], workers: int
) -> dict[str, dict[str, Any]]:
    """For each: mean IoU and accuracy in percent, and the same in the trimap of every w."""
    totals = {n: np.zeros((MOST_W + 1, NUM_LABELS, NUM_LABELS), np.int64) for n in params}
    jobs = [EvaluationJob(item, params) for item in items]
    outcomes = run_jobs(evaluate, jobs, workers, [PRELOAD])
    console = Console(stderr=True)
    for job, counts, error in track(outcomes, "evaluating", len(jobs), console=console):
        if error is not None:
            raise RuntimeError(f"{job.item.name}: {error}")
        for name, total in totals.items():
            total += counts[name]
    return {
        name: {
            **figures(total.sum(0)),
            "trimap": [
                {"w": w, **figures(total[:w].sum(0))}
                for w in range(1, MOST_W + 1)
                if total[:w].any()
            ],
        }
        for name, total in totals.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the data, with ids.txt")
    parser.add_argument("--out", type=Path, required=True, help="folder of the search's record")
    parser.add_argument("--json", type=Path, help="also write the result there")
    parser.add_argument("--seed", type=int, default=0, help="which third is searched on")
    parser.add_argument("--rounds", type=int, default=2, help="finer grids")
    parser.add_argument("--limit", type=int, help="first N images only, 3 at least")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    names = (arguments.folder / "ids.txt").read_text().split()[: arguments.limit]
    if len(names) < 3:
        parser.error("--limit: expected 3 or more")
    searched_on, held_out = (items_of(arguments.folder, n) for n in split(names, arguments.seed))

    plan = Plan(
        items=searched_on,
        loader=load_item,
        reading={"protocol": "crf_on_voc_scores"},
        grid=Grid(),
        rounds=arguments.rounds,
        fixed=Fixed(iterations=ITERATIONS),
        classes=classes_in(searched_on),
    )
    start = perf_counter()
    found = run(plan, arguments.out, Execution(arguments.workers, threads=1))
    search_seconds = perf_counter() - start
    best = plan.fixed.params(found.search.best.candidate)

    start = perf_counter()
    params: dict[str, CRFParams | None] = {"before": None, **PUBLISHED, "searched": best}
    result = measure(held_out, params, arguments.workers)
    evaluation_seconds = perf_counter() - start

    console = Console(highlight=False)
    table = Table("", "mean IoU (7)", "accuracy", title=f"{len(held_out)} images not searched on")
    for name, row in result.items():
        table.add_row(name, f"{row['miou7']:.3f}", f"{row['acc']:.3f}")
    console.print(table)
    console.print(f"{paste(best)}, found on {len(searched_on)} images in {search_seconds:.0f} s")
    if arguments.json:
        record = {
            "machine": machine_info(),
            "seed": arguments.seed,
            "workers": arguments.workers,
            "search": best_record(plan, found, search_seconds),
            "evaluation": {
                "images": len(held_out),
                "seconds": round(evaluation_seconds, 1),
                "params": {n: None if p is None else asdict(p) for n, p in params.items()},
                "figures": result,
            },
        }
        write_json(arguments.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
