"""What `precision="half"` changes in the CRF of real score maps: marginals, labels, mean IoU.

    python benchmarks/half_rows_on_voc_scores.py DATA_FOLDER                   # on a GPU
    python benchmarks/half_rows_on_voc_scores.py DATA_FOLDER --emulated --limit 12

The data is that of crf_on_voc_scores.py. The same kernels run on each photo with rows of float32
and of float16 on the vertices of the lattices; labels differ where the largest marginal is another
one's. Where two marginals are as good as equal a label says little, so the largest difference of
marginals at such a pixel is given, too. On a GPU the first photo is then timed, alone and 16 times,
with both precisions in turn.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from _emulated import on_the_emulated_kernels
from _timing import machine_info, time_paired, write_json
from crf_on_voc_scores import NUM_LABELS, confusion, figures, load
from deeplab_native import CRFParams, dense_crf

SETTINGS = {"80/13": CRFParams(4, 80, 13, 3, 3), "67/3": CRFParams(4, 67, 3, 3, 3)}
PRECISIONS = ("single", "half")


def compare(
    folder: Path, name: str, setting: str, how: dict[str, Any], device: torch.device
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Differences of one photo, and its confusion matrix with either precision."""
    logits, image, truth = load(folder, name)
    unary, image = -logits.log_softmax(1).to(device), image.to(device)
    single, half = (
        dense_crf(unary, image, SETTINGS[setting], precision=p, **how).cpu() for p in PRECISIONS
    )
    error, labels = (half - single).abs(), [q[0].argmax(0) for q in (single, half)]
    other = labels[0] != labels[1]
    row = {
        "max |dQ|": float(error.max()),
        "mean |dQ|": float(error.double().mean()),
        "pixels": other.numel(),
        "other labels": int(other.sum()),
        "max |dQ| there": float(error.amax(1)[0][other].max()) if other.any() else 0.0,
    }
    maps = zip(PRECISIONS, labels, strict=True)
    return row, {p: confusion(truth, one.numpy()) for p, one in maps}


def summary(rows: list[dict[str, float]], counts: dict[str, np.ndarray]) -> dict[str, float]:
    """Of one setting; shares are of all pixels, mean IoU in percent."""
    pixels = sum(r["pixels"] for r in rows)
    return {
        "max |dQ|": max(r["max |dQ|"] for r in rows),
        "mean |dQ|": sum(r["mean |dQ|"] * r["pixels"] for r in rows) / pixels,
        "other labels": sum(r["other labels"] for r in rows) / pixels,
        "most of a photo": max(r["other labels"] / r["pixels"] for r in rows),
        "max |dQ| there": max(r["max |dQ| there"] for r in rows),
        **{f"mean IoU (7), {p}": figures(counts[p])["miou7"] for p in PRECISIONS},
    }


def milliseconds(folder: Path, name: str, setting: str, batch: int) -> dict[str, float]:
    """Medians of whole calls on a GPU, both precisions in turn."""
    logits, image, _ = load(folder, name)
    given = [x.repeat(batch, 1, 1, 1).to("cuda") for x in (-logits.log_softmax(1), image)]
    crf = partial(dense_crf, *given, SETTINGS[setting])
    calls = {p: partial(crf, precision=p) for p in PRECISIONS}
    times = time_paired(calls, device="cuda")
    return {f"ms, {batch} at a time, {p}": times[p].median * 1e3 for p in PRECISIONS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=296, help="photos, evenly from the list")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--normalization", default="symmetric")
    parser.add_argument("--emulated", action="store_true", help="on the emulated kernels")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = (args.folder / "ids.txt").read_text().split()
    names = names[:: max(1, len(names) // args.limit)][: args.limit]
    how = {"iterations": args.iterations, "normalization": args.normalization}
    device = torch.device("cpu" if args.emulated else "cuda")
    results = {}
    with on_the_emulated_kernels() if args.emulated else nullcontext():
        for setting in args.settings:
            rows = []
            counts = {p: np.zeros((NUM_LABELS, NUM_LABELS), np.int64) for p in PRECISIONS}
            for name in names:
                row, own = compare(args.folder, name, setting, how, device)
                rows.append(row)
                for p in PRECISIONS:
                    counts[p] += own[p]
            results[setting] = summary(rows, counts)
            for batch in () if args.emulated else (1, 16):
                results[setting] |= milliseconds(args.folder, names[0], setting, batch)
    table = Table("", *results, title=f"{len(names)} photos")
    for key in next(iter(results.values())):
        table.add_row(key, *(f"{r[key]:.4g}" for r in results.values()))
    Console(highlight=False).print(table)
    if args.json:
        record = {"machine": machine_info(), "photos": names, **how, "results": results}
        write_json(args.json, record)


if __name__ == "__main__":
    main()
