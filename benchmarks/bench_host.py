"""Times what Python takes to start an op: calls on maps so small that little else is left.

    python benchmarks/bench_host.py

An eager layer on a GPU takes at least as long, however fast its kernels. Each op beside torch's own
way, in inference mode and under no_grad, one thread; the least of several rounds, in microseconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from _head import RATES, fused, sum_of_branches
from _outputs import add_outputs
from _timing import machine_info, write_results
from deeplab_native import atrous_conv2d

CHANNELS, FILTERS, SIZE = 8, 3, 3
MODES = {"inference mode": torch.inference_mode, "no_grad": torch.no_grad}


def functions() -> dict[str, Callable[[], object]]:
    input = torch.randn(1, CHANNELS, SIZE, SIZE)
    weights = [torch.randn(FILTERS, CHANNELS, 3, 3) for _ in RATES]
    biases = [torch.randn(FILTERS) for _ in RATES]
    one = input, weights[0], biases[0]
    return {
        "conv2d": partial(F.conv2d, *one, padding=6, dilation=6),
        "atrous_conv2d": partial(atrous_conv2d, *one, padding=6, rate=6),
        "four conv2d, sums": partial(sum_of_branches, F.conv2d, "dilation", input, weights, biases),
        "aspp": partial(fused, input, weights, biases),
    }


def least_us(call: Callable[[], object], rounds: int, calls: int) -> float:
    for _ in range(calls):
        call()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - start) / calls)
    return 1e6 * best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=200, help="of a round")
    add_outputs(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for mode, context in MODES.items():
        with context():
            results[mode] = {
                name: least_us(call, args.rounds, args.calls) for name, call in functions().items()
            }
    machine = machine_info()
    table = Table(title=f"microseconds of a call, {machine['cpu']}, torch {machine['torch']}")
    for heading in ("op", *MODES):
        table.add_column(heading, justify="left" if heading == "op" else "right")
    for name in results["no_grad"]:
        table.add_row(name, *(f"{results[mode][name]:.1f}" for mode in MODES))
    Console().print(table)
    write_results(args, results)


if __name__ == "__main__":
    main()
