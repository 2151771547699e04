"""The variants that only a GPU can choose between, side by side, by graph replay.

    python benchmarks/bench_variants.py                     # every switch
    python benchmarks/bench_variants.py --switch NAME ...
    python benchmarks/bench_variants.py --emulated          # without a GPU: each once, compared

The choices of a switch take turns, round by round, and their results are compared with those of the
default: a choice that differs by more than its case allows fails the run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from _cuda_timing import capture, in_turn
from _emulated import on_the_emulated_kernels
from _outputs import add_outputs
from _timing import time_paired, write_results
from _variant_cases import CASES, Case
from deeplab_native import _variants


def results(case: Case) -> list[torch.Tensor]:
    return [case.fn(*args).detach().clone() for args in case.inputs]


def difference(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Largest; infinite where shapes differ or a value is not finite."""
    if any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        return float("inf")
    most = max((float((x.double() - y.double()).abs().max()) for x, y in zip(a, b, strict=True)))
    return most if most == most else float("inf")


def run_case(switch: str, case: Case, timed: bool, min_time: float) -> dict:
    """Milliseconds of every choice, its difference to the default, or its error."""
    row: dict = {"switch": switch, "case": case.name, "timings": {}, "difference": {}, "errors": {}}
    replays: dict[str, Callable[[], object]] = {}
    default: list[torch.Tensor] | None = None
    for choice in _variants.CHOICES[switch]:
        try:
            with _variants.use({switch: choice}):
                own = results(case)
                if timed:
                    calls = [partial(case.fn, *args) for args in case.inputs]
                    replays[choice] = in_turn(capture(calls))
        except Exception as error:
            row["errors"][choice] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        default = own if default is None else default
        row["difference"][choice] = difference(own, default)
        if not row["difference"][choice] <= case.tolerance:
            row["errors"][choice] = f"differs by {row['difference'][choice]:.3g}"
    if replays:
        timings = time_paired(replays, min_time_s=min_time, device="cuda")
        row["timings"] = {choice: asdict(timing) for choice, timing in timings.items()}
    return row


def table(rows: list[dict]) -> Table:
    out = Table(title="variants", caption="milliseconds a call by graph replay; first: the default")
    for name in ("switch", "case", "choice", "ms", "x", "differs by", ""):
        out.add_column(name)
    for row in rows:
        medians = {choice: t["median"] for choice, t in row["timings"].items()}
        base = next(iter(medians.values()), None)
        for i, choice in enumerate(_variants.CHOICES[row["switch"]]):
            names = (row["switch"], row["case"]) if i == 0 else ("", "")
            ms = medians.get(choice)
            speed = ("", "") if ms is None else (f"{1e3 * ms:.4f}", f"{base / ms:.2f}")
            differs = row["difference"].get(choice)
            shown = "" if differs is None else f"{differs:.1e}"
            out.add_row(*names, choice, *speed, shown, row["errors"].get(choice, ""))
    return out


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--switch", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--emulated", action="store_true", help="small, on the emulated kernels")
    parser.add_argument("--min-time", type=float, default=0.05, help="seconds of each choice")
    add_outputs(parser)
    return parser.parse_args()


def main() -> int:
    args = parse()
    if not args.emulated and not torch.cuda.is_available():
        sys.exit("bench_variants: no GPU, or a torch without CUDA; --emulated runs without")
    torch.manual_seed(0)
    device = torch.device("cpu" if args.emulated else "cuda")
    rows = []
    with on_the_emulated_kernels() if args.emulated else nullcontext():
        for switch in args.switch:
            for case in CASES[switch](device, args.emulated):
                rows.append(run_case(switch, case, not args.emulated, args.min_time))
                write_results(args, rows)
    write_results(args, rows)
    Console(width=160).print(table(rows))
    return int(any(row["errors"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
