"""Times space-to-batch and batch-to-space on a GPU against the speed of a plain copy.

    python benchmarks/bench_space_to_batch.py --json benchmarks/results/space_to_batch_cuda.json
    python benchmarks/bench_space_to_batch.py --quick       # small, on the CPU: that it runs

Both only move memory: bytes read plus bytes written, over the time, cannot pass what a large copy
reaches. The maps are those of ResNet-101's atrous layers, in batches that fill the GPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from _cuda_timing import copy_bandwidth, time_cuda
from _outputs import add_outputs
from _timing import machine_info, time_function, write_results
from deeplab_native import batch_to_space, space_to_batch

CASES = [  # (B, C, H, W), rate, dtype
    ((32, 2048, 65, 65), 6, torch.bfloat16),
    ((32, 2048, 65, 65), 12, torch.bfloat16),
    ((16, 2048, 65, 65), 12, torch.float32),
    ((64, 512, 65, 65), 4, torch.float32),
    ((64, 1024, 41, 41), 12, torch.float32),
]


QUICK = [((2, 8, 9, 9), 2, torch.float32)]


def bench(
    device: str, size, rate: int, dtype: torch.dtype, channels_last: bool, copy, min_time: float
) -> list[dict]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = [
        torch.randn(size, device=device, dtype=dtype).contiguous(memory_format=layout)
        for _ in range(2)
    ]
    blocks = [space_to_batch(map, rate) for map in maps]
    moved = (maps[0].numel() + blocks[0].numel()) * maps[0].element_size()
    back = partial(batch_to_space, rate=rate, size=size[2:])
    results = []
    for name, fn, inputs in (
        ("space_to_batch", partial(space_to_batch, rate=rate), maps),
        ("batch_to_space", back, blocks),
    ):
        if device == "cuda":
            timing = time_cuda(fn, [(t,) for t in inputs], min_time_s=min_time)
        else:
            timing = time_function(partial(fn, inputs[0]), 2, 0.0)
        # of batch_to_space the padding of the blocks is not read
        count = moved if name == "space_to_batch" else 2 * maps[0].nbytes
        results.append(
            {
                "op": name,
                "size": size,
                "rate": rate,
                "dtype": str(dtype).removeprefix("torch."),
                "channels_last": channels_last,
                "bytes_per_s": count / timing.median,
                "of_copy": copy and count / timing.median / copy,
                "timing": asdict(timing),
            }
        )
    return results


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--min-time", type=float, default=0.2, help="seconds of each variant")
    add_outputs(parser)
    parser.add_argument("--quick", action="store_true", help="one small case, on the CPU")
    return parser.parse_args()


def main() -> None:
    args = parse()
    device = "cpu" if args.quick else "cuda"
    if not args.quick and not torch.cuda.is_available():
        sys.exit("torch finds no GPU")
    copy = copy_bandwidth() if device == "cuda" else None
    results = []
    for case in QUICK if args.quick else CASES:
        for channels_last in (False, True):
            results += bench(device, *case, channels_last, copy, args.min_time)
            write_results(args, results, copy_bytes_per_s=copy)
    where = machine_info()["gpu"] or "CPU"
    out = Table(title=f"{where}, a copy moves {(copy or 0) / 1e9:.0f} GB/s")
    for name in ("op", "size", "rate", "dtype", "layout", "GB/s", "of a copy"):
        out.add_column(name)
    for result in results:
        cells = [result["op"], str(result["size"]), str(result["rate"]), result["dtype"]]
        cells += ["channels_last" if result["channels_last"] else "contiguous"]
        out.add_row(*cells, f"{result['bytes_per_s'] / 1e9:.0f}", f"{result['of_copy'] or 0:.0%}")
    Console(width=140).print(out)


if __name__ == "__main__":
    main()
