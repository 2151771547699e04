"""Times atrous_conv2d by every algorithm on the layers of DeepLab v2.

    python benchmarks/bench_conv.py --threads 2 --json benchmarks/results/conv.json
    python benchmarks/bench_conv.py --device cuda --minutes 3 --json build/conv.json
    python benchmarks/conv_table.py --add build/conv.json benchmarks/results/conv_h200.json

On a GPU it measures what `atrous_conv2d(algorithm="auto")` chooses by there: unless told otherwise
every dtype, both layouts, batches of 1, 2, 4 and 8. First come the cases in which a native
algorithm is expected to be fastest; --minutes ends it after so many, --backward times training
instead, and the JSON is written after every case. Of a variant that fails the error is kept.

"aten" is `torch.nn.functional.conv2d` as it is, "aten_cl" the same on a channels_last copy of the
input, made anew in every run, as in a network whose other layers are contiguous. On a GPU,
"aten_benchmark" lets cuDNN choose its algorithm by trying them, "aten_deterministic" keeps to
those that give the same bits every time, as im2col and direct do, and "auto_deterministic" is
"auto" under that setting; "graph" is a replay of a CUDA graph, without what Python takes to start
the kernels. Sizes 41 and 65 are those of crops of 321 and 513 pixels. Runs of one
layer alternate, so ratios hold better than times on a machine that does other work; they take their
input from several maps in turn. On the CPU the ASPP head as a whole comes last, fused, with its
ratio to four `conv2d` and their sums; bench_aspp.py has more of it. What is printed below the table
is for `CHANNELS_LAST_FROM_RATE` in `ops/_conv_choice.py`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from _conv_cases import Case, cases
from _cuda_timing import graphed
from _head import head_functions, head_ratios
from _outputs import add_outputs
from _timing import machine_info, rotate, time_paired, write_results
from deeplab_native.ops.atrous_conv import atrous_conv2d


@dataclass(frozen=True)
class Variant:
    """A way to compute a layer."""

    algorithm: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    to_channels_last: bool = False
    cudnn: dict[str, bool] = field(default_factory=dict)

    def __call__(self, case: Case, backward: bool, input, weight, bias) -> None:
        if self.to_channels_last:
            input = input.contiguous(memory_format=torch.channels_last)
        rate = case.layer.rate
        with self.settings(case):
            out = atrous_conv2d(
                input, weight, bias, padding=rate, rate=rate, algorithm=self.algorithm
            )
            if backward:
                # a dense gradient, as the next layer sends it; ones expanded would be copied first
                torch.autograd.grad(out, (input, weight, bias), out.detach())

    @contextmanager
    def settings(self, case: Case) -> Iterator[None]:
        if case.device == "cpu":
            yield
            return
        allow_tf32 = case.dtype == "tfloat32"
        torch.backends.cuda.matmul.allow_tf32 = allow_tf32  # the product of im2col
        flags = {"benchmark": False, "deterministic": False, **self.cudnn}
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allow_tf32, **flags):
            yield


VARIANTS = {
    "aten": Variant("aten"),
    "aten_cl": Variant("aten", devices=("cpu",), to_channels_last=True),
    "aten_benchmark": Variant("aten", devices=("cuda",), cudnn={"benchmark": True}),
    "aten_deterministic": Variant("aten", devices=("cuda",), cudnn={"deterministic": True}),
    "auto": Variant("auto"),
    "auto_deterministic": Variant("auto", devices=("cuda",), cudnn={"deterministic": True}),
    "im2col": Variant("im2col"),
    "space_to_batch": Variant("space_to_batch"),
    "direct": Variant("direct", devices=("cuda",)),
}


DEFAULTS_CPU = {"batch": [1], "dtype": ["float32"], "layout": ["contiguous"]}
DEFAULTS_CUDA = {
    "batch": [1, 2, 4, 8],
    "dtype": ["bfloat16", "float16", "float32", "tfloat32"],
    "layout": ["contiguous", "channels_last"],
}
GRAPHED = ("aten", "auto")  # timed by replay of a CUDA graph, too


def bench(case: Case, args: argparse.Namespace) -> dict:
    inputs = case.tensors(args.backward)
    functions, errors = {}, {}
    for name in args.variants:
        if case.device not in VARIANTS[name].devices:
            continue
        function = rotate(partial(VARIANTS[name], case, args.backward), inputs)
        try:
            function()
            functions[name] = function
            if case.device == "cuda" and not args.backward and name in GRAPHED:
                functions[f"{name} graph"] = graphed(function, len(inputs))
        except (RuntimeError, ValueError) as error:  # out of memory, too
            errors[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    timings = time_paired(functions, args.min_runs, args.min_time, case.device)
    result = {"case": asdict(case) | {"backward": args.backward}}
    result["timings"] = {k: asdict(t) for k, t in timings.items()}
    return result | ({"errors": errors} if errors else {})


def bench_head(size: int, args: argparse.Namespace) -> dict:
    """The whole head of ResNet-101 in inference, one map."""
    functions = head_functions("cpu", 21, 1, size, torch.float32, backward=False)
    timings = time_paired(functions, args.min_runs, args.min_time)
    return {"head": {"size": size}, "timings": {k: asdict(t) for k, t in timings.items()}}


def channels_last_rates(results: list[dict]) -> Iterator[str]:
    """Of layers that differ in their rate only: from which on the copy to channels_last pays."""
    layers: dict[tuple, dict[int, float]] = {}
    for result in results:
        case, timings = result["case"], result["timings"]
        if case["layout"] == "contiguous" and {"aten", "aten_cl"} <= timings.keys():
            layer = case["layer"]
            key = layer["channels"], layer["filters"], case["size"], case["batch"], case["dtype"]
            gain = timings["aten"]["median"] / timings["aten_cl"]["median"]
            layers.setdefault(key, {})[layer["rate"]] = gain
    for (channels, filters, size, batch, dtype), gains in layers.items():
        rates = sorted(gains)
        paying = [r for r in rates if all(gains[s] > 1 for s in rates if s >= r)]
        name = f"{channels} -> {filters}, {batch} x {size}² {dtype}"
        yield f"{name}: channels_last pays from rate {paying[0] if paying else 'none'} of {rates}"


def table(results: list[dict], title: str) -> Table:
    variants = list(dict.fromkeys(name for result in results for name in result["timings"]))
    out = Table(title=title, caption="median (p10-p90) in ms; x: speed against the first column")
    for heading in ("layer", "input"):
        out.add_column(heading)
    for variant in variants:
        out.add_column(variant, justify="right")
    for result in results:
        case, timings = result["case"], result["timings"]
        first = next(iter(timings.values()))["median"] if timings else 0.0
        cells = []
        for t in map(timings.get, variants):
            spread = t and f"{t['median'] * 1e3:.3g} ({t['p10'] * 1e3:.3g}-{t['p90'] * 1e3:.3g})"
            cells.append(f"{spread} {first / t['median']:.2f}x" if t else "-")
        kind = f"{case['batch']} x {case['size']}² {case['dtype']} {case['layout']}"
        out.add_row(case["layer"]["name"], kind, *cells)
    return out


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
    )
    parser.add_argument("--size", type=int, nargs="+", default=[41], help="of the square maps")
    parser.add_argument("--dtype", nargs="+", help="torch's, or tfloat32")
    parser.add_argument("--layout", nargs="+", choices=["contiguous", "channels_last"])
    parser.add_argument("--minutes", type=float, help="begin no case after so many")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="default: torch's own setting")
    parser.add_argument("--backward", action="store_true", help="time forward and backward")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--layers", default="", help="only layers whose name contains this")
    parser.add_argument("--quick", action="store_true", help="three layers, fewer runs")
    parser.add_argument("--min-runs", type=int, help="default: 9, with --quick 3")
    parser.add_argument(
        "--min-time", type=float, help="seconds of each variant; default: 1, --quick 0.1"
    )
    add_outputs(parser)
    args = parser.parse_args()
    for name, default in (DEFAULTS_CUDA if args.device == "cuda" else DEFAULTS_CPU).items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    args.min_runs = args.min_runs or (3 if args.quick else 9)
    if args.min_time is None:
        usual = 0.02 if args.device == "cuda" else 1.0
        args.min_time = 0.1 if args.quick else usual
    if not any(args.device in VARIANTS[name].devices for name in args.variants):
        parser.error(f"--variants: none of {', '.join(args.variants)} runs on {args.device}")
    return args


def main() -> None:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    results = []
    capability = (
        {"capability": list(torch.cuda.get_device_capability())} if args.device == "cuda" else {}
    )
    begin = time.monotonic()
    todo = cases(args)
    for case in todo:
        if args.minutes is not None and results and time.monotonic() - begin > 60 * args.minutes:
            break
        results.append(bench(case, args))
        write_results(args, results, **capability)
    if not results:
        raise SystemExit("no layer is left: see --layers, --quick and --dtype")
    machine = machine_info()
    where = f"{machine['threads']} threads, {machine['cpu']}"
    if args.device == "cuda":
        where = machine["gpu"]
    title = f"{'forward and backward' if args.backward else 'forward'}, {where}"
    Console(width=200).print(table(results, title))
    if len(results) < len(todo):
        print(f"{len(todo) - len(results)} of {len(todo)} cases were left out: --minutes")
    heads = []
    if args.device == "cpu":
        print(*channels_last_rates(results), sep="\n")
        if "float32" in args.dtype and args.layers in "ResNet ASPP head" and not args.backward:
            heads = [bench_head(size, args) for size in args.size]
    for head in heads:
        print(
            f"ResNet ASPP head, 1 x {head['head']['size']}² float32:", head_ratios(head["timings"])
        )
    write_results(args, results + heads, **capability)


if __name__ == "__main__":
    main()
