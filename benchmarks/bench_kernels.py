"""How long each kernel takes within a call, and how often it starts: what predictions are held to.

    python benchmarks/bench_kernels.py --json kernels.json
    python benchmarks/bench_kernels.py --device cpu --quick    # torch's own operators: that it runs

Calls of the CRF, the ASPP head and space_to_batch, under torch's profiler, after a warm-up. Times
are the device's alone: gaps between kernels are in none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

import deeplab_native as dn
from _nvcc import short_name
from _outputs import add_outputs
from _timing import write_results
from bench_crf import Case, sample

CALLS = 3
CRFS = [Case(375, 500, 21, 80, 13), Case(375, 500, 21, 67, 3)]
RATES = (6, 12, 18, 24)


def cases(device: str, quick: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    """Names and calls, small ones where quick."""
    for case in [Case(24, 32, 3, 80, 13)] if quick else CRFS:
        unary, image = (t.to(device) for t in sample(case))
        for batch in (1,) if quick else (1, 16):
            tensors = [t.expand(batch, -1, -1, -1).contiguous() for t in (unary, image)]
            yield f"crf {case.name}, batch {batch}", partial(dn.dense_crf, *tensors, case.params)
    channels, size, dtype = (8, 9, torch.float32) if quick else (2048, 65, torch.bfloat16)
    new = partial(torch.randn, device=device, dtype=dtype)
    weights = [new(21, channels, 3, 3) for _ in RATES]
    for layout in (torch.contiguous_format, torch.channels_last):
        said = str(layout).removeprefix("torch.").removesuffix("_format")
        for batch in (1, 8):
            map = new(batch, channels, size, size).contiguous(memory_format=layout)
            head = partial(dn.aspp, map, weights, None, RATES)
            yield f"ASPP head {size}x{size} {said}, batch {batch}", head
        blocks = dn.space_to_batch(map, 12)
        yield f"space_to_batch {said}, rate 12, batch 8", partial(dn.space_to_batch, map, 12)
        back = partial(dn.batch_to_space, blocks, 12, (size, size))
        yield f"batch_to_space {said}, rate 12, batch 8", back


@torch.inference_mode()
def kernels(call: Callable[[], object], device: str) -> list[dict]:
    """Of each kernel microseconds and launches a call, the longest first."""
    cuda = device == "cuda"
    for _ in range(2):
        call()
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
        for _ in range(CALLS):
            call()
        if cuda:
            torch.cuda.synchronize()
    rows = []
    for event in seen.key_averages():
        total = event.self_device_time_total if cuda else event.self_cpu_time_total
        if total > 0:
            times = {"us": total / CALLS, "launches": event.count / CALLS}
            rows.append({"kernel": short_name(event.key), **times})
    return sorted(rows, key=lambda row: -row["us"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small inputs")
    parser.add_argument("--top", type=int, default=8, help="kernels that are printed of each call")
    add_outputs(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU")
    torch.manual_seed(0)
    results: list[dict] = []
    out = Table(caption=f"microseconds and launches a call, mean of {CALLS}")
    for name in ("call", "us", "launches", "kernel"):
        out.add_column(name)
    for name, call in cases(args.device, args.quick):
        rows = kernels(call, args.device)
        results.append({"case": name, "us": sum(row["us"] for row in rows), "kernels": rows})
        write_results(args, results)
        out.add_row(name, f"{results[-1]['us']:.1f}", "", "all")
        for row in rows[: args.top]:
            out.add_row("", f"{row['us']:.1f}", f"{row['launches']:.1f}", row["kernel"][:90])
    Console(width=170).print(out)


if __name__ == "__main__":
    main()
