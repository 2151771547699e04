"""Times nets and CRFs of other projects beside ours, for docs/comparison.md.

    python benchmarks/beside_other_projects.py nets --deeplab-pytorch CLONE --size 321
    python benchmarks/beside_other_projects.py crf --deeplab-pytorch CLONE --voc DATA_FOLDER
    python benchmarks/beside_other_projects.py table --update    # the page's tables, of the results

"nets" takes one forward pass of a ResNet-101 with 21 classes and random weights, one image, the
CPU: DeepLab v2 of deeplab-pytorch and ours with the same weights, and the DeepLab v3 of torchvision
and segmentation_models.pytorch, another net with more parameters whose scores are interpolated to
the image. All have output stride 8. Nets whose package is not there are named and left out.

"crf" takes a photograph and a net's probabilities, both NumPy arrays, to marginals:
deeplab-pytorch's step, which is pydensecrf's, the same code on our drop-in, `refine`, ConvCRF and
MONAI's block. All get the parameters of deeplab-pytorch's configuration, which are other models in
ConvCRF (a window) and MONAI (normalised after filtering). Labels are counted that differ from the
first row's.
With --voc the photos are 375x500 of crf_on_voc_scores.py's folder, without the package's.

All that are compared run in turn in one process. --json adds the part to what the file has.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import statistics
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from _beside_peers import LABELS, nets, steps
from _timing import machine_info, time_paired, write_json
from bench_crf import Case, inputs
from gpu_table import placed

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "beside_other_projects.json"
PAGE = HERE.parent / "docs" / "comparison.md"
BEGIN = "<!-- benchmarks/beside_other_projects.py -->"
PACKAGES = ("torch", "torchvision", "segmentation_models_pytorch", "numpy")
CASE = Case(375, 500, LABELS, 67, 3)


def bench_nets(args: argparse.Namespace) -> list[dict]:
    """A row for each net, in seconds of one forward pass."""
    torch.set_num_threads(args.threads[-1])
    image = torch.randn(1, 3, args.size, args.size, generator=torch.Generator().manual_seed(0))
    rows, forwards, expected = [], {}, None
    with torch.inference_mode():
        for name, net, *forward in nets(args.deeplab_pytorch):
            if not forward:
                rows.append({"name": name, "left_out": net})
                continue
            forwards[name] = partial(forward[0], image)
            scores = forwards[name]()
            row = {"name": name, "parameters": sum(p.numel() for p in net.parameters())}
            row |= {"scores": list(scores.shape), "finite": bool(scores.isfinite().all())}
            if expected is not None and expected.shape == scores.shape:
                row["difference"] = float((scores - expected).abs().max() / expected.abs().max())
            expected = scores if expected is None else expected
            rows.append(row)
        timings = time_paired(forwards, args.runs, 0.0)
    return [row | _seconds(timings.get(row["name"])) for row in rows]


def bench_crfs(args: argparse.Namespace) -> list[dict]:
    """A row for each CRF: seconds by photograph, and their median."""
    found = list(steps(args.deeplab_pytorch, args.convcrf, args.monai, args.threads))
    rows = {name: {"name": name} for name, _ in found}
    rows |= {name: {"name": name, "left_out": why} for name, why in found if isinstance(why, str)}
    chosen = {name: step for name, step in found if not isinstance(step, str)}
    photos = list(inputs(CASE, args.voc, args.photos))
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    others = dict.fromkeys(chosen, 0)
    for unary, image in track(photos, "photos", console=Console(stderr=True), transient=True):
        pixels = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        calls = {n: partial(step, pixels, (-unary[0]).exp().numpy()) for n, step in chosen.items()}
        labels = {name: np.asarray(call()).argmax(0) for name, call in calls.items()}
        first = next(iter(labels.values()))
        for name, timing in time_paired(calls, args.runs, 0.0).items():
            seconds[name].append(timing.median)
            others[name] += int((labels[name] != first).sum())
    pixels_of_all = len(photos) * CASE.height * CASE.width
    for name, values in seconds.items():
        rows[name] |= {"median": statistics.median(values), "photos": values}
        rows[name]["labels_differ"] = others[name] / pixels_of_all
    return list(rows.values())


def _seconds(timing: object) -> dict:
    return asdict(timing) if timing else {}


def ratios(rows: list[dict]) -> dict[str, float]:
    """How many times as fast as the first row each one is, by its name."""
    timed = [row for row in rows if "median" in row]
    return {row["name"]: timed[0]["median"] / row["median"] for row in timed}


def markdown(results: dict[str, dict]) -> str:
    """Both tables of the page."""
    sizes = {name: part for name, part in sorted(results.items()) if name.startswith("net")}
    lines = ["One forward pass, seconds, beside the first row; " + where(sizes) + ":", ""]
    lines += [
        "| | parameters | scores | " + " | ".join(sizes) + " |",
        "|---|---|---|" + "---|" * len(sizes),
    ]
    first = next(iter(sizes.values()))
    for row in first["rows"]:
        if "left_out" in row:
            continue
        cells = []
        for part in sizes.values():
            own = next(r for r in part["rows"] if r["name"] == row["name"])
            cells.append(f"{own['median']:.2f} ({ratios(part['rows'])[row['name']]:.2f} x)")
        shape = "x".join(map(str, row["scores"][2:]))
        lines.append(
            f"| {row['name']} | {row['parameters'] / 1e6:.1f} M | {shape} | {' | '.join(cells)} |"
        )
    crf = results["crf"]
    lines += [
        "",
        f"The CRF, a photograph of {CASE.height}x{CASE.width} and 21 labels; {where({'': crf})}:",
        "",
    ]
    lines += ["| | seconds | | labels that differ |", "|---|---|---|---|"]
    for row in crf["rows"]:
        if "left_out" not in row:
            times = ratios(crf["rows"])[row["name"]]
            lines.append(
                f"| {row['name']} | {row['median']:.3g} | {times:.2g} x | "
                f"{100 * row['labels_differ']:.2g} % |"
            )
    return "\n".join(lines)


def where(parts: dict[str, dict]) -> str:
    """On what the parts were measured, in words."""
    part = next(iter(parts.values()))
    machine, versions = part["machine"], part["versions"]
    date = datetime.datetime.fromisoformat(machine["date"])
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return f"{machine['cores']} cores of an {machine['cpu']}, {date.day} {date:%B %Y}, {known}"


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("nets", "crf", "table"))
    parser.add_argument("--deeplab-pytorch", type=Path, metavar="CLONE")
    parser.add_argument("--convcrf", type=Path, metavar="CLONE")
    parser.add_argument("--monai", type=Path, metavar="CLONE", help="its extension built")
    parser.add_argument("--voc", type=Path, metavar="FOLDER", help="see crf_on_voc_scores.py")
    parser.add_argument("--photos", type=int, default=3, help="of --voc")
    parser.add_argument("--size", type=int, default=321, help="of the nets' image")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="PATH", help="add the results there")
    parser.add_argument("--update", action="store_true", help="write the tables into the page")
    args = parser.parse_args()
    args.threads = sorted(set(args.threads))
    return args


def main() -> None:
    args = parse()
    if args.part == "table":
        tables = markdown(json.loads(RESULTS.read_text()))
        print(tables)
        if args.update:
            PAGE.write_text(placed(PAGE.read_text(), tables, BEGIN))
        return
    rows = bench_nets(args) if args.part == "nets" else bench_crfs(args)
    part = {
        "machine": machine_info(),
        "versions": {name: installed(name) for name in PACKAGES},
        "threads": args.threads,
        "rows": rows,
    }
    for row in rows:
        print(row["name"], {k: v for k, v in row.items() if k != "name"})
    if args.json:
        before = json.loads(args.json.read_text()) if args.json.exists() else {}
        name = f"net, {args.size} x {args.size}" if args.part == "nets" else "crf"
        write_json(args.json, before | {name: part})


if __name__ == "__main__":
    main()
