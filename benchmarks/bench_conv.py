"""Times atrous_conv2d by every algorithm on the layers of DeepLab v2.

    python benchmarks/bench_conv.py --threads 2 --json benchmarks/results/conv.json

"aten" is `torch.nn.functional.conv2d` as it is, "aten_cl" the same on a channels_last copy of the
input, made anew in every run, as in a network whose other layers are contiguous. Runs of one layer
alternate, so ratios hold better than times on a machine that does other work.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from _timing import machine_info, time_paired, write_json
from deeplab_native.ops.atrous_conv import atrous_conv2d


@dataclass(frozen=True)
class Layer:
    """A 3 x 3 convolution, stride 1, as much padding as rate."""

    name: str
    channels: int
    filters: int
    rate: int
    size: int


LAYERS = [
    Layer("VGG LargeFOV fc6", 512, 1024, 12, 41),
    *(Layer(f"ResNet ASPP r={r}", 2048, 21, r, 41) for r in (6, 12, 18, 24)),
    Layer("ResNet res4", 256, 256, 2, 41),
    Layer("ResNet res5", 512, 512, 4, 41),
]
VARIANTS = ("aten", "aten_cl", "auto", "im2col", "space_to_batch")


def run(variant: str, layer: Layer, input, weight, bias, backward: bool) -> None:
    if variant == "aten_cl":
        input = input.contiguous(memory_format=torch.channels_last)
    algorithm = "aten" if variant == "aten_cl" else variant
    out = atrous_conv2d(
        input, weight, bias, padding=layer.rate, rate=layer.rate, algorithm=algorithm
    )
    if backward:
        torch.autograd.grad(out, (input, weight, bias), torch.ones_like(out))


def bench(layer: Layer, args: argparse.Namespace) -> dict:
    dtype = getattr(torch, args.dtype)
    new = partial(torch.randn, dtype=dtype, device=args.device, requires_grad=args.backward)
    input = new(args.batch, layer.channels, layer.size, layer.size)
    weight, bias = new(layer.filters, layer.channels, 3, 3), new(layer.filters)
    functions = {
        variant: partial(run, variant, layer, input, weight, bias, args.backward)
        for variant in args.variants
    }
    timings = time_paired(functions, args.min_runs, args.min_time)
    return {"layer": asdict(layer), "timings": {k: asdict(t) for k, t in timings.items()}}


def table(results: list[dict], variants: list[str], title: str) -> Table:
    out = Table(title=title, caption="median (p10-p90) in ms; x: speed against the first column")
    out.add_column("layer")
    for variant in variants:
        out.add_column(variant, justify="right")
    for result in results:
        timings = result["timings"]
        first = timings[variants[0]]["median"]
        cells = [
            f"{t['median'] * 1e3:.1f} ({t['p10'] * 1e3:.0f}-{t['p90'] * 1e3:.0f})"
            f" {first / t['median']:.2f}x"
            for t in (timings[variant] for variant in variants)
        ]
        out.add_row(result["layer"]["name"], *cells)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="default: torch's own setting")
    parser.add_argument("--backward", action="store_true", help="time forward and backward")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--layers", default="", help="only layers whose name contains this")
    parser.add_argument("--min-runs", type=int, default=9)
    parser.add_argument("--min-time", type=float, default=1.0, help="seconds of each variant")
    parser.add_argument("--json", metavar="PATH", help="write the results there")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    results = [bench(layer, args) for layer in LAYERS if args.layers in layer.name]
    machine = machine_info()
    title = f"{args.dtype}, batch {args.batch}, {machine['threads']} threads, {machine['cpu']}"
    Console(width=170).print(table(results, args.variants, title))
    if args.json:
        write_json(args.json, {"machine": machine, "arguments": vars(args), "results": results})


if __name__ == "__main__":
    main()
