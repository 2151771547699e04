"""Times the ASPP head and the upsampling to unary energies against PyTorch's own functions.

    python benchmarks/bench_aspp.py --threads 2 --json benchmarks/results/aspp.json

The head of ResNet-101, 2048 channels, rates 6, 12, 18, 24: "conv" is four
`torch.nn.functional.conv2d` and their sums, "conv_cl" the same of channels_last tensors,
"branches" four `atrous_conv2d`, "fused" and "fused_cl" `aspp` of a contiguous and a channels_last
input. The upsampling by 8: "torch" is `interpolate` and `-log_softmax`, "fused" `upsample_unary`.
The input has its layout before the clock starts. On a GPU "graph" is the same by replay of a CUDA
graph, without what Python takes to start the kernels. Runs of one case alternate, so ratios hold
better than times on a machine that does other work.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from _cuda_timing import graphed
from _head import ROTATED, head_functions, run
from _outputs import add_outputs
from _timing import machine_info, time_paired, write_results
from deeplab_native import upsample_unary


def interpolate(scores, size: int) -> torch.Tensor:
    wide = F.interpolate(scores, size=(size, size), mode="bilinear", align_corners=True)
    return -F.log_softmax(wide, 1)


def head(args, batch: int, size: int, dtype: torch.dtype, backward: bool) -> dict:
    return head_functions(args.device, args.labels, batch, size, dtype, backward)


def upsampling_functions(args, batch: int, size: int, dtype: torch.dtype, backward: bool) -> dict:
    scores = torch.randn(batch, args.labels, size, size, dtype=dtype, device=args.device)
    scores.requires_grad_(backward)
    wide = 8 * (size - 1) + 1
    calls = {
        "torch": partial(interpolate, scores, wide),
        "fused": partial(upsample_unary, scores, wide),
    }
    return {name: partial(run, call, [scores], backward) for name, call in calls.items()}


PARTS = {"head": head, "upsampling": upsampling_functions}


def bench(args: argparse.Namespace) -> list[dict]:
    results = []
    for part, batch, size, dtype, passes in itertools.product(
        args.parts, args.batch, args.size, args.dtype, args.passes
    ):
        backward = passes == "training"
        # both of torch's settings alike: convolutions and products, fused or not
        torch.backends.cudnn.allow_tf32 = dtype == "tfloat32"
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tfloat32"
        torch.backends.cudnn.benchmark = True  # cuDNN's best, found in the first runs
        tensors = getattr(torch, dtype.replace("tfloat", "float"))
        functions = PARTS[part](args, batch, size, tensors, backward)
        if part == "head" and args.device == "cuda" and not backward:
            functions |= {f"{n} graph": graphed(f, ROTATED) for n, f in functions.items()}
        timings = time_paired(functions, args.min_runs, args.min_time, args.device)
        case = {"part": part, "batch": batch, "size": size, "dtype": dtype, "passes": passes}
        results.append({**case, "timings": {k: asdict(t) for k, t in timings.items()}})
        write_results(args, results)
    return results


def table(results: list[dict], title: str) -> Table:
    """One row a case; x is the speed against the fastest of PyTorch's own."""
    out = Table(title=title, caption="median (p10-p90) in ms; x: against the best of PyTorch's own")
    for column in ("case", "timings"):
        out.add_column(column)
    for result in results:
        timings = result["timings"]
        own = min(timings[n]["median"] for n in ("conv", "conv_cl", "torch") if n in timings)
        cells = [
            f"{name} {t['median'] * 1e3:.3g} ({t['p10'] * 1e3:.3g}-{t['p90'] * 1e3:.3g})"
            f" {own / t['median']:.2f}x"
            for name, t in timings.items()
        ]
        case = f"{result['part']} {result['batch']} x {result['size']} x {result['size']} "
        out.add_row(case + f"{result['dtype']} {result['passes']}", "  ".join(cells))
    return out


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--size", type=int, nargs="+", default=[41, 65], help="of the score map")
    parser.add_argument("--labels", type=int, default=21)
    parser.add_argument("--dtype", nargs="+", default=["float32"], help="torch's, or tfloat32")
    parser.add_argument(
        "--passes",
        nargs="+",
        choices=("inference", "training"),
        default=["inference", "training"],
        help="training: forward and backward",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="default: torch's own setting")
    parser.add_argument("--min-runs", type=int, default=9)
    parser.add_argument("--min-time", type=float, default=0.3, help="seconds of each variant")
    add_outputs(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)

    results = bench(args)
    machine = machine_info()
    where = machine["gpu"] or machine["cpu"]
    title = f"{args.labels} labels, {machine['threads']} threads, {where}"
    Console(width=200).print(table(results, title))


if __name__ == "__main__":
    main()
