"""How close to the exact mean field `lattice="bridged"` comes, and what it does to real labels.

    python benchmarks/bridged_on_voc_scores.py DATA_FOLDER --json result.json

The data is that of crf_on_voc_scores.py. Three things, with weights 4 + 3, sigma_gamma 3 and 10
iterations:

- some photos (--photos), whole or their middle (--part HEIGHT WIDTH), against the mean field with
  all pairs of pixels, for which a whole one takes minutes: --cache FOLDER keeps those marginals for
  the next run;
- all photos: the mean IoU and the accuracy of both lattices' labels;
- one photo's time, lattices and inference, on one thread and on two.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from _timing import machine_info, time_paired, write_json
from crf_on_voc_scores import NUM_LABELS, confusion, figures, load
from deeplab_native import CRFParams, MeanField, dense_crf

SETTINGS = {
    f"{alpha}/{beta}": CRFParams(4, alpha, beta, 3, 3)
    for alpha, beta in ((80, 13), (60, 5), (67, 3), (50, 3))
}
OF_ALL_PHOTOS = ("80/13", "67/3")
LATTICES = ("standard", "bridged")
TIMED = "2007_000676"  # of median lattice size


def given(folder: Path, name: str, part: list[int] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Unary (1, L, H, W) and image (1, 3, H, W), of the middle of that height and width at most."""
    logits, image, _ = load(folder, name)
    tensors = -logits.log_softmax(1), image
    for axis, size in enumerate(part or [], start=2):
        whole = image.shape[axis]
        size = min(size, whole)
        tensors = tuple(t.narrow(axis, (whole - size) // 2, size) for t in tensors)
    return tensors[0].contiguous(), tensors[1].contiguous()


def exact_marginals(
    unary: torch.Tensor, image: torch.Tensor, setting: str, name: str, cache: Path | None
) -> torch.Tensor:
    """Q (1, L, H, W) of the mean field itself."""
    _, _, height, width = unary.shape
    file = cache and cache / f"{name}_{height}x{width}_{setting.replace('/', '-')}.npy"
    if file and file.exists():
        return torch.from_numpy(np.load(file))
    q = dense_crf(unary, image, SETTINGS[setting], algorithm="exact")
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, q.numpy())
    return q


def against_exact(
    folder: Path, names: list[str], setting: str, part: list[int] | None, cache: Path | None
) -> dict[str, Any]:
    """Means over the photos; labels that differ as shares of the pixels."""
    rows: dict[str, list[list[float]]] = {lattice: [] for lattice in LATTICES}
    for name in names:
        unary, image = given(folder, name, part)
        exact = exact_marginals(unary, image, setting, name, cache)
        for lattice in LATTICES:
            crf = MeanField.from_image(unary, image, SETTINGS[setting], lattice=lattice)
            q = crf.inference(10)
            error = (q - exact).abs()
            other = (q.argmax(1) != exact.argmax(1)).double().mean()
            vertices = crf.num_vertices[0][1]
            rows[lattice].append([other, error.double().mean(), error.max(), vertices])
    keys = "other labels", "mean |dQ|", "max |dQ|", "vertices"
    means = {k: dict(zip(keys, np.mean(r, 0).tolist(), strict=True)) for k, r in rows.items()}
    ratios = {
        key: means["bridged"][key] / means["standard"][key]
        for key in ("other labels", "mean |dQ|", "vertices")
    }
    return {"photos": len(names), **means, "ratios": ratios}


def labels_of_all(folder: Path, names: list[str], setting: str) -> dict[str, Any]:
    """Mean IoU and accuracy in percent, and how many of the labels differ."""
    counts = {k: np.zeros((NUM_LABELS, NUM_LABELS), np.int64) for k in LATTICES}
    other = pixels = 0
    for name in names:
        logits, image, truth = load(folder, name)
        unary, maps = -logits.log_softmax(1), []
        for lattice in LATTICES:
            q = dense_crf(unary, image, SETTINGS[setting], lattice=lattice)
            maps.append(q[0].argmax(0).numpy())
            counts[lattice] += confusion(truth, maps[-1])
        other += int((maps[0] != maps[1]).sum())
        pixels += truth.size
    of_each = {lattice: figures(counts[lattice]) for lattice in LATTICES}
    return {"photos": len(names), **of_each, "other labels": other / pixels}


def milliseconds(folder: Path, setting: str, threads: int) -> dict[str, dict[str, float]]:
    """Medians, the lattices in turn: of a whole call, and of 10 iterations on lattices built."""
    torch.set_num_threads(threads)
    logits, image, _ = load(folder, TIMED)
    unary, params = -logits.log_softmax(1), SETTINGS[setting]
    calls = {k: partial(dense_crf, unary, image, params, lattice=k) for k in LATTICES}
    built = {k: MeanField.from_image(unary, image, params, lattice=k) for k in LATTICES}
    loops = {k: partial(built[k].inference, 10) for k in LATTICES}
    whole, alone = time_paired(calls, device="cpu"), time_paired(loops, device="cpu")
    return {
        k: {"whole": whole[k].median * 1e3, "inference": alone[k].median * 1e3} for k in LATTICES
    }


def show(console: Console, results: dict[str, Any]) -> None:
    table = Table("", "other labels", "mean |dQ|", "max |dQ|", "vertices", title="against exact")
    for setting, row in results.get("against exact", {}).items():
        for lattice in LATTICES:
            r = row[lattice]
            table.add_row(
                f"{setting}, {lattice}",
                f"{r['other labels']:.5f}",
                *(f"{r[key]:.2e}" for key in ("mean |dQ|", "max |dQ|")),
                f"{r['vertices']:.0f}",
            )
    console.print(table)
    for key in ("labels", "milliseconds"):
        for setting, row in results.get(key, {}).items():
            console.print(key, setting, row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the data, with ids.txt")
    parser.add_argument("--photos", type=int, default=6, help="that are compared with exact ones")
    parser.add_argument("--part", type=int, nargs=2, help="height and width of their middle")
    parser.add_argument("--every", type=int, default=1, help="of all photos, every N-th only")
    parser.add_argument("--cache", type=Path, help="for the exact marginals")
    parser.add_argument(
        "--only", nargs="*", default=["exact", "labels", "time"], help="exact, labels, time"
    )
    parser.add_argument("--json", type=Path, help="also write the results there; others stay")
    arguments = parser.parse_args()
    names = (arguments.folder / "ids.txt").read_text().split()
    results: dict[str, Any] = {"machine": machine_info(), "part": arguments.part}
    if "exact" in arguments.only:
        some = names[:: max(1, len(names) // arguments.photos)][: arguments.photos]
        results["against exact"] = {
            s: against_exact(arguments.folder, some, s, arguments.part, arguments.cache)
            for s in SETTINGS
        }
    if "labels" in arguments.only:
        results["labels"] = {
            s: labels_of_all(arguments.folder, names[:: arguments.every], s) for s in OF_ALL_PHOTOS
        }
    if "time" in arguments.only:
        results["milliseconds"] = {
            f"{s}, {threads} threads": milliseconds(arguments.folder, s, threads)
            for s in SETTINGS
            for threads in (1, 2)
        }
    show(Console(highlight=False), results)
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
