"""Times permutohedral_filter, lattice included, beside another implementation where one is given.

    python benchmarks/bench_permutohedral.py --threads 1 2
    python benchmarks/bench_permutohedral.py --device cuda --peer monai._C
    python benchmarks/bench_permutohedral.py --photo photo.jpg --peer monai_phl

The points are the pixels of a photograph with its colours (d = 5), as the CRF's bilateral kernel
has them. A peer is a module with MONAI's phl_filter(values (B, C, H, W), features (B, d, H, W)), a
normalised filter: ours is then that of the values and of ones, divided. Runs alternate. What both
give is compared at every point: their lattices are the same up to rounding.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from _outputs import add_outputs
from _timing import machine_info, rotate, time_paired, write_results
from deeplab_native import permutohedral_filter
from deeplab_native.demo.photo import photograph

SIGMAS = ["80/13", "60/5", "67/3", "50/3"]
ROTATED = 4  # images that a benchmark on a GPU takes in turn


def features_of(image: np.ndarray, sigmas: str, device: str) -> torch.Tensor:
    """(5, H, W): x, y and colours over their standard deviations "sigma_alpha/sigma_beta"."""
    alpha, beta = map(float, sigmas.split("/"))
    height, width = image.shape[:2]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    colours = torch.from_numpy(image.copy()).permute(2, 0, 1).float()
    return torch.cat([torch.stack([x, y]) / alpha, colours / beta]).to(device)


def ours(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return permutohedral_filter(values.flatten(2).mT, features.flatten(2).mT)


def ours_normalised(values: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    out = ours(torch.cat([values, torch.ones_like(values[:, :1])], 1), features).mT
    return (out[:, :-1] / out[:, -1:]).view_as(values)


def bench(image: np.ndarray, sigmas: str, channels: int, args: argparse.Namespace) -> dict:
    generator = torch.Generator().manual_seed(0)
    features = features_of(image, sigmas, args.device)
    inputs = []
    for shift in range(ROTATED if args.device == "cuda" else 1):
        shape = (1, channels, *image.shape[:2])
        values = torch.rand(shape, generator=generator).to(args.device)
        inputs.append((values, features.roll(7 * shift, 2)[None].contiguous()))
    functions: dict[str, Callable[[], object]] = {"ours": rotate(ours, inputs)}
    result = {"sigmas": sigmas, "channels": channels, "size": list(image.shape[:2])}
    if args.peer is not None:
        peer = args.peer.phl_filter
        functions |= {"normalised": rotate(ours_normalised, inputs), "peer": rotate(peer, inputs)}
        difference = (ours_normalised(*inputs[0]) - peer(*inputs[0])).abs()
        result["difference"] = {"max": difference.max().item(), "mean": difference.mean().item()}
    timings = time_paired(functions, args.min_runs, args.min_time, args.device)
    if args.peer is not None:
        result["ratio"] = timings["peer"].median / timings["normalised"].median
    return result | {"timings": {name: asdict(timing) for name, timing in timings.items()}}


def table(results: list[dict], title: str) -> Table:
    out = Table(title=title, caption="milliseconds of a call, median; x: peer over normalised")
    for name in ("size", "sigmas", "C", "threads", "ours", "normalised", "peer", "x", "max |d|"):
        out.add_column(name, justify="right")
    for result in results:
        times = [
            f"{1e3 * result['timings'][name]['median']:.3g}" if name in result["timings"] else ""
            for name in ("ours", "normalised", "peer")
        ]
        compared = "ratio" in result
        ratio = f"{result['ratio']:.1f}" if compared else ""
        difference = f"{result['difference']['max']:.1e}" if compared else ""
        size = "x".join(map(str, result["size"]))
        cells = [size, result["sigmas"], str(result["channels"]), str(result["threads"])]
        out.add_row(*cells, *times, ratio, difference)
    return out


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, help="default: the sample photograph of `demo`")
    parser.add_argument("--size", type=int, nargs=2, default=[375, 500], metavar=("H", "W"))
    parser.add_argument("--sigmas", nargs="+", default=SIGMAS)
    parser.add_argument("--channels", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peer", metavar="MODULE", help="with MONAI's phl_filter")
    parser.add_argument("--min-runs", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.3, help="seconds of each variant")
    add_outputs(parser)
    args = parser.parse_args()
    for sigmas in args.sigmas:
        if not re.fullmatch(r"[\d.]+/[\d.]+", sigmas):
            parser.error(f"--sigmas: expected alpha/beta such as 80/13, got {sigmas}")
    if args.photo is not None and not args.photo.is_file():
        parser.error(f"--photo: {args.photo} is no file")
    if args.peer is not None:
        try:
            args.peer = importlib.import_module(args.peer)
            args.peer.phl_filter  # noqa: B018
        except (ImportError, AttributeError) as error:
            parser.error(f"--peer: {error}")
    return args


def main() -> None:
    args = arguments()
    photo = Image.open(args.photo).convert("RGB") if args.photo else Image.fromarray(photograph())
    height, width = args.size
    image = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC))
    results = []
    for threads in args.threads if args.device == "cpu" else [1]:
        torch.set_num_threads(threads)
        for sigmas in args.sigmas:
            for channels in args.channels:
                results.append({"threads": threads} | bench(image, sigmas, channels, args))
                write_results(args, results)
    machine = machine_info()
    Console(width=120).print(table(results, machine["gpu"] or machine["cpu"]))


if __name__ == "__main__":
    main()
