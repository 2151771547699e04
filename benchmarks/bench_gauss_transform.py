"""Times the exact mean field and its sum over all pairs of pixels, beside the lattice.

    python benchmarks/bench_gauss_transform.py --voc FOLDER                       # 96 x 128
    python benchmarks/bench_gauss_transform.py --voc FOLDER --size 375 500 --photos 1
    python benchmarks/bench_gauss_transform.py --device cuda --json exact.json

"sum" is one `gauss_transform` of as many channels as labels over a photograph's bilateral features,
sorting them included; "exact" and "lattice" are whole calls of `dense_crf`, ten iterations of both
kernels. "kept": of all pairs of pixels those whose kernel is computed, because the box of 32 sorted
pixels comes near enough to the other; "near": those whose own kernel is above the cutoff.
"labels", "mean" and "max |dQ|": how far the lattice is from the exact marginals. --voc: as of
bench_crf.py; without it the sample photograph with made-up scores.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from _outputs import add_outputs
from _timing import time_paired, write_results
from bench_crf import Case, inputs
from deeplab_native import dense_crf, gauss_transform
from deeplab_native.ops._point_order import near_order, take_points
from deeplab_native.ops.pairwise_features import image_features

SIGMAS = ["67/3", "80/13"]
TILE = 32
FAR = -2 * math.log(torch.finfo(torch.float32).eps / 2)
SAMPLE = 200  # tiles that stand for all


def survivors(features: torch.Tensor) -> tuple[float, float]:
    """The shares "kept" and "near" of features (N, d)."""
    points = take_points(features[None], near_order(features[None]))[0]
    tiles = points[: len(points) // TILE * TILE].view(-1, TILE, points.shape[1])
    chosen = tiles[torch.randperm(len(tiles), generator=torch.Generator().manual_seed(0))[:SAMPLE]]
    kept, near = [], []
    for tile in chosen:
        low, high = tile.aminmax(dim=0)
        gap = torch.maximum(points - high, low - points).clamp_min(0)
        kept.append((gap.square().sum(1) <= FAR).double().mean().item())
        near.append(((points - tile[0]).square().sum(1) <= FAR).double().mean().item())
    return statistics.fmean(kept), statistics.fmean(near)


def bench(case: Case, unary: torch.Tensor, image: torch.Tensor, args: argparse.Namespace) -> dict:
    features = image_features(image, case.sigma_alpha, case.sigma_beta)[0].contiguous()
    values = unary.softmax(1)[0].flatten(1).T.contiguous()
    kept, near = survivors(features.cpu())
    crf = partial(dense_crf, unary, image, case.params)
    exact, lattice = crf(algorithm="exact"), crf()
    difference = (exact - lattice).abs()
    functions = {
        "sum": partial(gauss_transform, values, features),
        "exact": partial(crf, algorithm="exact"),
        "lattice": crf,
    }
    timings = time_paired(functions, args.min_runs, args.min_time, args.device)
    return {
        "size": [case.height, case.width], "labels": case.labels,
        "sigmas": f"{case.sigma_alpha:g}/{case.sigma_beta:g}", "kept": kept, "near": near,
        "timings": {name: asdict(timing) for name, timing in timings.items()},
        "difference": {
            "labels": (exact.argmax(1) != lattice.argmax(1)).double().mean().item(),
            "mean": difference.mean().item(), "max": difference.max().item(),
        },
    }  # fmt: skip


def table(results: list[dict], title: str) -> Table:
    out = Table(title=title, caption="seconds of a call, median; share of pairs, of labels")
    names = "size", "L", "sigmas", "threads", "kept", "near", "sum", "exact", "lattice"
    for name in (*names, "labels", "mean |dQ|", "max |dQ|"):
        out.add_column(name, justify="right")
    for r in results:
        times = [f"{r['timings'][name]['median']:.3g}" for name in ("sum", "exact", "lattice")]
        d = r["difference"]
        out.add_row(
            "x".join(map(str, r["size"])), str(r["labels"]), r["sigmas"], str(r["threads"]),
            f"{r['kept']:.1%}", f"{r['near']:.1%}", *times,
            f"{d['labels']:.2%}", f"{d['mean']:.1e}", f"{d['max']:.2f}",
        )  # fmt: skip
    return out


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voc", type=Path, help="photos with score maps; default: a made-up case")
    parser.add_argument("--photos", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=[96, 128], metavar=("H", "W"))
    parser.add_argument("--labels", type=int, default=21)
    parser.add_argument("--sigmas", nargs="+", default=SIGMAS, metavar="ALPHA/BETA")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--min-runs", type=int, default=3)
    parser.add_argument("--min-time", type=float, default=0.0, help="seconds of each variant")
    add_outputs(parser)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    results = []
    for sigmas in args.sigmas:
        alpha, beta = map(float, sigmas.split("/"))
        case = Case(*args.size, args.labels, alpha, beta)
        for unary, image in inputs(case, args.voc, args.photos):
            for threads in args.threads:
                torch.set_num_threads(threads)
                one = bench(case, unary.to(args.device), image.to(args.device), args)
                results.append({**one, "threads": threads})
    Console(width=120).print(table(results, f"The exact mean field on {args.device}"))
    write_results(args, results)


if __name__ == "__main__":
    main()
