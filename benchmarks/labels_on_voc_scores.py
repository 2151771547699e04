"""How many labels matter, iteration by iteration, on real score maps: what the CUDA kernels skip.

    python benchmarks/labels_on_voc_scores.py DATA_FOLDER --limit 40 [--json result.json]

The data is that of crf_on_voc_scores.py. Labels of a photo are ordered by their largest marginal
after the initial softmax (Q0) or the first update (Q1); a chunk of 4 of them is worked on where
those from it on have a larger sum of marginals than csrc/cuda/hot_labels.cuh allows. In tiles of
16 x 16 pixels, labels are counted that pass it alone. Runs on the CPU, all labels exact.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from _timing import machine_info, write_json
from crf_on_voc_scores import load
from deeplab_native import CRFParams, MeanField

CHUNK, TILE = 4, 16
SETTINGS = {"80/13": CRFParams(4, 80, 13, 3, 3), "67/3": CRFParams(4, 67, 3, 3, 3)}
ORDERS = ("Q0", "Q1")


def most_cold(params: CRFParams) -> float:
    """The sum of a pixel's marginals whose messages may be left out."""
    return 2**-7.5 / max(1.0, float(params.w1) + float(params.w2))


def active_chunks(q: torch.Tensor, order: torch.Tensor, bound: float) -> int:
    """Of marginals (L, H, W): chunks up to the last whose labels, and all after it, matter."""
    ordered = functional.pad(q[order], (0, 0, 0, 0, 0, -len(order) % CHUNK))
    most = ordered.unflatten(0, (-1, CHUNK)).sum(1).flatten(1).amax(1)
    rest = most.flip(0).cumsum(0).flip(0)  # of a chunk and all after it
    return max(1, int((rest > bound).sum()))


def tile_counts(q: torch.Tensor, bound: float) -> torch.Tensor:
    return (functional.max_pool2d(q[None], TILE, ceil_mode=True)[0] > bound).sum(0).flatten()


def count(unary: torch.Tensor, image: torch.Tensor, params: CRFParams, iterations: int) -> list:
    """A row for each of Q0 ... : labels above bounds, chunks by both orders, labels of a tile."""
    field = MeanField.from_image(unary, image, params)
    q = [field.start()]
    for _ in range(iterations):
        q.append(field.step(q[-1]))
    orders = {
        name: q[i][0].flatten(1).amax(1).sort(descending=True, stable=True).indices
        for i, name in enumerate(ORDERS)
    }
    bound, rows = most_cold(params), []
    for one in q:
        most = one[0].flatten(1).amax(1)
        tiles = tile_counts(one[0], bound)
        row = {f"> {b:.0e}": int((most > b).sum()) for b in (3e-5, 1e-3)}
        row |= {f"> {bound:.1e}": int((most > bound).sum())}
        row |= {f"chunks {name}": active_chunks(one[0], o, bound) for name, o in orders.items()}
        row |= {"tile labels": float(tiles.float().mean())}
        row |= {"tile chunks": float((tiles.clamp_min(1) / CHUNK).ceil().mean())}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=40, help="photos, evenly from the list")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = (args.folder / "ids.txt").read_text().split()
    names = names[:: max(1, len(names) // args.limit)][: args.limit]
    console, record = Console(width=140, highlight=False), {}
    for setting in args.settings:
        counts: dict = defaultdict(lambda: defaultdict(list))
        for name in names:
            logits, image, _ = load(args.folder, name)
            rows = count(-logits.log_softmax(1), image, SETTINGS[setting], args.iterations)
            for t, row in enumerate(rows):
                for key, value in row.items():
                    counts[key][t].append(value)
        table = Table("after update", title=f"{setting}, {len(names)} photos: mean (median, most)")
        for key in counts:
            table.add_column(key)
        for t in range(args.iterations + 1):
            cells = [counts[key][t] for key in counts]
            table.add_row(
                str(t),
                *(
                    f"{statistics.mean(c):.2f} ({statistics.median(c):.3g}, {max(c):.3g})"
                    for c in cells
                ),
            )
        console.print(table)
        record[setting] = {key: dict(by_update) for key, by_update in counts.items()}
    if args.json:
        write_json(args.json, {"machine": machine_info(), "photos": names, "counts": record})


if __name__ == "__main__":
    main()
