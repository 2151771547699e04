"""Learns the CRF's parameters on real scores by gradient descent, and reports other images.

    python experiments/learn_crf.py DATA_FOLDER --json experiments/learn_crf.json

The scores, the split (a third, drawn with --seed) and the figures are those of
benchmarks/crf_search_on_voc_scores.py, whose record --known has what the published and the searched
parameters give. Layers are trained from the published 4 / 67 / 3, w2 / sigma_gamma 3 / 3:
"potts" learns w1, sigma_alpha and sigma_beta, which the search looks for, and "matrix" a 21 x 21
compatibility as well, by -log of the marginal of each labelled pixel's label, the mean over the
pixels of an image and over the images of an update. "potts-iou" is "potts" by what is reported: 1 -
the IoU of the marginals, the mean over the labels of an image. Training runs on every --stride-th
pixel of rows and columns, with `spacing`, so that the sigmas are those of the whole image; reported
is the whole image, 10 iterations.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn import functional

from deeplab_native import CRFParams
from deeplab_native.layers import DenseCRF

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from _timing import machine_info, write_json  # noqa: E402
from crf_on_voc_scores import NUM_LABELS, VOID, load  # noqa: E402
from crf_search_on_voc_scores import items_of, measure, split  # noqa: E402

START = CRFParams(w1=4, sigma_alpha=67, sigma_beta=3, w2=3, sigma_gamma=3)
KERNEL = ("w1", "sigma_alpha", "sigma_beta")
RUNS: dict[str, dict[str, Any]] = {
    "potts": {"trainable": KERNEL},
    "matrix": {"trainable": (*KERNEL, "compatibility"), "compatibility": "matrix"},
    "potts-iou": {"trainable": KERNEL},
}


class Sample(NamedTuple):
    scores: torch.Tensor  # (1, L, h, w)
    image: torch.Tensor  # (1, 3, h, w) uint8
    labels: torch.Tensor  # (1, h, w) int64


def read(folder: Path, names: list[str], stride: int) -> Iterator[Sample]:
    """Every `stride`-th pixel: not means, whose colours differ less than those of pixels."""
    for name in names:
        logits, image, labels = load(folder, name)
        some = (..., slice(stride // 2, None, stride), slice(stride // 2, None, stride))
        known = torch.from_numpy(labels)[None].long()
        yield Sample(logits[some].contiguous(), image[some].contiguous(), known[some].contiguous())


def nll(log_q: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.nll_loss(log_q, labels, ignore_index=VOID)


def soft_iou(log_q: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of an image, with marginals as shares of pixels."""
    known = labels != VOID
    q = log_q.exp().movedim(1, -1)[known]
    truth = functional.one_hot(labels[known], NUM_LABELS).to(q.dtype)
    both, pixels = (q * truth).sum(0), truth.sum(0)
    iou = both / (q.sum(0) + pixels - both)
    return 1 - iou[pixels > 0].mean()


def learn(
    crf: DenseCRF,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    samples: list[Sample],
    arguments: argparse.Namespace,
    console: Console,
) -> dict[str, Any]:
    """Trains it; mean loss and parameters of every epoch."""
    kernel = [p for n, p in crf.named_parameters() if n != "compatibility"]
    groups = [{"params": kernel, "lr": arguments.lr}]
    if isinstance(crf.compatibility, torch.nn.Parameter):
        groups.append({"params": [crf.compatibility], "lr": arguments.lr_matrix})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    updates = arguments.epochs * math.ceil(len(samples) / arguments.batch)
    # down along half a cosine
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    order = random.Random(arguments.seed)
    epochs = [{"loss": None, **numbers(crf)}]
    start = perf_counter()
    for epoch in range(arguments.epochs):
        shuffled = order.sample(samples, len(samples))
        total = 0.0
        firsts = range(0, len(shuffled), arguments.batch)
        for first in track(firsts, f"epoch {epoch + 1}", console=console):
            batch = shuffled[first : first + arguments.batch]
            for sample in batch:  # of different sizes
                loss = loss_of(crf(sample.scores, sample.image), sample.labels)
                (loss / len(batch)).backward()
                total += float(loss.detach())
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        epochs.append({"loss": total / len(samples), **numbers(crf)})
        console.print(epochs[-1])
    return {"seconds": round(perf_counter() - start, 1), "updates": updates, "epochs": epochs}


def numbers(crf: DenseCRF) -> dict[str, float]:
    """Kernel parameters that are trained, as they are now."""
    return {n: float(getattr(crf, f"log_{n}").detach().exp()) for n in KERNEL}


@torch.no_grad()
def mean_loss(crf: DenseCRF, samples: Iterator[Sample]) -> float:
    """-log of the marginals, by the iterations of testing."""
    crf.eval()
    losses = [float(nll(crf(sample.scores, sample.image), sample.labels)) for sample in samples]
    return sum(losses) / len(losses)


def plain(params: CRFParams) -> dict[str, Any]:
    """For JSON."""
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in asdict(params).items()
    }


def report(figures: dict[str, Any], images: int, console: Console) -> None:
    widths = (1, 5, 10, 20, 40)
    columns = ["", "mean IoU (7)", "accuracy", *(f"trimap {w}" for w in widths)]
    table = Table(*columns, title=f"{images} images not learned on")
    for name, row in figures.items():
        trimap = {t["w"]: t["miou7"] for t in row["trimap"]}
        values = [row["miou7"], row["acc"], *(trimap.get(w, math.nan) for w in widths)]
        table.add_row(name, *(f"{v:.2f}" for v in values))
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the data, with ids.txt")
    parser.add_argument("--json", type=Path, help="also write the result there")
    parser.add_argument("--known", type=Path, default=HERE / "crf_on_voc_scores.json")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=0, help="which third, and its order")
    parser.add_argument("--stride", type=int, default=4, help="pixels, while training")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=7, help="images of an update")
    parser.add_argument("--lr", type=float, default=0.05, help="of the logarithms")
    parser.add_argument("--lr-matrix", type=float, default=0.02)
    parser.add_argument("--loss-every", type=int, default=3, help="of the others, every N-th")
    parser.add_argument("--limit", type=int, help="first N images only, 3 at least")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    names = (arguments.folder / "ids.txt").read_text().split()[: arguments.limit]
    if len(names) < 3:
        parser.error("--limit: expected 3 or more")
    console = Console(highlight=False)
    learned_on, held_out = split(names, arguments.seed)
    samples = list(read(arguments.folder, learned_on, arguments.stride))

    others, some = items_of(arguments.folder, held_out), held_out[:: arguments.loss_every]

    def loss_of_others(crf: DenseCRF) -> float:
        return mean_loss(crf, read(arguments.folder, some, arguments.stride))

    known = json.loads(arguments.known.read_text())
    same = known["seed"] == arguments.seed and known["evaluation"]["images"] == len(held_out)
    figures: dict[str, Any] = known["evaluation"]["figures"] if same else {}
    names_of = ("stride", "epochs", "batch", "lr", "lr_matrix", "loss_every")
    record: dict[str, Any] = {
        "machine": machine_info(),
        "seed": arguments.seed,
        "start": asdict(START),
        "settings": {n: getattr(arguments, n) for n in names_of},
        "images": {"learned on": len(samples), "others": len(held_out)},
        "loss_of_others": {"start": loss_of_others(DenseCRF(START, spacing=arguments.stride))},
        "learned": {},
        "figures": {},
    }
    for run in arguments.runs:
        crf = DenseCRF(START, num_labels=NUM_LABELS, spacing=arguments.stride, **RUNS[run])
        loss = soft_iou if run.endswith("iou") else nll
        record["learned"][run] = learn(crf.train(), loss, samples, arguments, console)
        record["learned"][run]["params"] = plain(crf.params)
        record["loss_of_others"][run] = loss_of_others(crf)
        record["figures"] |= measure(others, {run: crf.params}, arguments.workers)
        if arguments.json:  # what there is: the rest takes a while
            write_json(arguments.json, record)
    report({**figures, **record["figures"]}, len(held_out), console)
    console.print("loss of the others", record["loss_of_others"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
