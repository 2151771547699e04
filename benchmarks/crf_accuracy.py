"""How far is each dense CRF from the mean field it approximates, and what does it cost?

    python benchmarks/crf_accuracy.py FOLDER --photos 8 --crop 96x128 --json result.json
    python benchmarks/crf_accuracy.py FOLDER --photos 2 --settings 67/3 --json full.json

The data is that of crf_on_voc_scores.py. The reference is the mean field with the Gaussian kernels
themselves, dense_crf(..., algorithm="exact"), with the same normalisation; ten iterations. A crop
keeps the photo's pixels: of all windows of the size, on a grid, the one with the most changes of
the net's label. Labels differ where the largest marginal is another one's. Seconds are the least of
--runs runs, one after the other, on --threads threads. Peers run where they are found: pydensecrf
in PYTHONPATH, ConvCRF (--convcrf) and MONAI (--monai, its extension built in place) in clones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import _accuracy_peers as peers
from _emulated import on_the_emulated_kernels
from _timing import machine_info, write_json
from crf_on_voc_scores import load
from deeplab_native import CRFParams, dense_crf

SETTINGS = {
    name: CRFParams(4, sigma_alpha, sigma_beta, 3, 3)
    for name, sigma_alpha, sigma_beta in (
        ("80/13", 80, 13),
        ("60/5", 60, 5),
        ("67/3", 67, 3),
        ("50/3", 50, 3),
    )
}
ITERATIONS = 10


@dataclass(frozen=True)
class Mode:
    """A dense CRF, and the normalisation of what it approximates."""

    crf: peers.Crf
    normalization: str = "symmetric"


def ours(unary: torch.Tensor, image: torch.Tensor, params: CRFParams, **how: Any) -> torch.Tensor:
    return dense_crf(unary, image, params, iterations=ITERATIONS, **how)[0]


def half(unary: torch.Tensor, image: torch.Tensor, params: CRFParams) -> torch.Tensor:
    """By the emulated kernels of CUDA, as the CPU has no such rows."""
    with on_the_emulated_kernels():
        return ours(unary, image, params, precision="half")


def modes(args: argparse.Namespace) -> dict[str, Mode]:
    """Those that can run here."""
    found = {
        "lattice": Mode(ours),
        "bridged": Mode(partial(ours, lattice="bridged")),
        "lattice, after": Mode(partial(ours, normalization="after"), "after"),
    }
    if args.emulated:
        found["half"] = Mode(half)
    try:
        found["pydensecrf"] = Mode(peers.pydensecrf(ITERATIONS))
    except ImportError as error:
        print(f"without pydensecrf: {error}")
    if args.convcrf:
        for blur in (1, 4):
            crf = peers.convcrf(args.convcrf, ITERATIONS, blur)
            found[f"ConvCRF, blur {blur}"] = Mode(crf)
    if args.monai:
        found["MONAI"] = Mode(peers.monai(args.monai, ITERATIONS), "after")
    return {name: mode for name, mode in found.items() if not args.modes or name in args.modes}


def busiest_window(labels: torch.Tensor, size: tuple[int, int]) -> tuple[slice, slice]:
    """Where a label map (H, W) changes most, of the windows on a grid of an eighth of the size."""
    height, width = (min(n, most) for n, most in zip(size, labels.shape, strict=True))
    changes = torch.zeros(labels.shape)
    changes[1:] += labels[1:] != labels[:-1]
    changes[:, 1:] += labels[:, 1:] != labels[:, :-1]
    most, best = -1.0, (slice(0, height), slice(0, width))
    for top in range(0, labels.shape[0] - height + 1, max(1, height // 8)):
        for left in range(0, labels.shape[1] - width + 1, max(1, width // 8)):
            window = slice(top, top + height), slice(left, left + width)
            if (count := float(changes[window].sum())) > most:
                most, best = count, window
    return best


def photo(
    folder: Path, name: str, crop: tuple[int, int] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies (1, 21, H, W) and image (1, 3, H, W) uint8."""
    logits, image, _ = load(folder, name)
    unary = -logits.log_softmax(1)
    if crop:
        rows, columns = busiest_window(logits[0].argmax(0), crop)
        unary, image = (x[..., rows, columns].contiguous() for x in (unary, image))
    return unary, image


def timed(crf: peers.Crf, *given: Any, runs: int) -> tuple[torch.Tensor, float]:
    """What it gives, and its least seconds."""
    least = float("inf")
    for _ in range(runs):
        start = perf_counter()
        q = crf(*given)
        least = min(least, perf_counter() - start)
    return q, least


def difference(q: torch.Tensor, exact: torch.Tensor) -> dict[str, float]:
    error = (q - exact).abs().double()
    other = q.argmax(0) != exact.argmax(0)
    return {
        "labels": float(other.double().mean()) * 100,
        "mean |dQ|": float(error.mean()),
        "max |dQ|": float(error.max()),
    }


def compare(
    folder: Path,
    names: Iterable[str],
    params: CRFParams,
    chosen: dict[str, Mode],
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    """A row for each photo: each mode's differences from the exact mean field, and seconds."""
    rows = []
    for name in names:
        unary, image = photo(folder, name, args.crop)
        row: dict[str, Any] = {"photo": name, "size": list(image.shape[2:])}
        exact = {}
        for normalization in sorted({mode.normalization for mode in chosen.values()}):
            crf = partial(ours, algorithm="exact", normalization=normalization)
            exact[normalization], seconds = timed(crf, unary, image, params, runs=1)
            row[f"exact, {normalization}"] = {"seconds": seconds}
        before = unary[0].argmin(0) != exact["symmetric"].argmax(0) if "symmetric" in exact else []
        row["changed by the CRF"] = float(np.mean(np.asarray(before)) * 100)
        for key, mode in chosen.items():
            q, seconds = timed(mode.crf, unary, image, params, runs=args.runs)
            row[key] = difference(q, exact[mode.normalization]) | {"seconds": seconds}
        rows.append(row)
        print(f"{name}: " + ", ".join(f"{k} {row[k]['labels']:.2f} %" for k in chosen), flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each mode: means over the photos, the largest max |dQ| and the median seconds."""
    how = {"labels": np.mean, "mean |dQ|": np.mean, "max |dQ|": np.max, "seconds": np.median}
    modes = [key for key in rows[0] if isinstance(rows[0][key], dict)]
    return {
        mode: {
            key: float(of([row[mode][key] for row in rows]))
            for key, of in how.items()
            if key in rows[0][mode]
        }
        for mode in modes
    }


KEYS = ("labels", "mean |dQ|", "max |dQ|", "seconds")


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """A row for each mode: of each setting the labels that differ, mean |dQ|, seconds."""
    lines = ["| | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    forms = {"labels": "{:.2f} %", "mean |dQ|": "{:.1e}", "seconds": "{:.2g} s"}
    for mode in next(iter(results.values()))["summary"]:
        cells = []
        for result in results.values():
            figures = result["summary"][mode]
            cells.append(", ".join(f.format(figures[k]) for k, f in forms.items() if k in figures))
        lines.append(f"| {mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=8, help="evenly from the list")
    parser.add_argument("--crop", type=size, help="HEIGHTxWIDTH; default: whole photos")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--modes", nargs="+", help="of those that can run; default: all")
    parser.add_argument("--emulated", action="store_true", help='also precision="half", emulated')
    parser.add_argument("--convcrf", type=Path, help="folder of a clone")
    parser.add_argument("--monai", type=Path, help="folder of a clone, its extension built")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = (args.folder / "ids.txt").read_text().split()
    names = names[:: max(1, len(names) // args.photos)][: args.photos]
    chosen = modes(args)
    results = {}
    for setting in args.settings:
        rows = compare(args.folder, names, SETTINGS[setting], chosen, args)
        results[setting] = {"photos": rows, "summary": summary(rows)}
        table = Table(setting, "labels, %", *KEYS[1:], title=f"{len(names)} photos")
        for mode, figures in results[setting]["summary"].items():
            table.add_row(mode, *(f"{figures[k]:.3g}" if k in figures else "" for k in KEYS))
        Console(highlight=False).print(table)
    print(markdown(results))
    if args.json:
        record = {
            "machine": machine_info(),
            "iterations": ITERATIONS,
            "crop": args.crop,
            "threads": args.threads,
            "results": results,
        }
        write_json(args.json, record)


if __name__ == "__main__":
    main()
