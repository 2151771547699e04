"""The least that the kernels can take on an H200, beside the goals: arithmetic, no measurement.

    python benchmarks/roofline.py                      # the photograph that matplotlib ships
    python benchmarks/roofline.py --voc FOLDER         # real photographs, see crf_on_voc_scores.py
    python benchmarks/roofline.py --only "375x500x21 80/13" --launch-us 2.5 --device-tb-s 4.8
    python benchmarks/roofline.py --brief              # one line for each workload

Every kernel's bytes and operations over the ceilings of `_roofline.py`; lattices have the vertices
that the library's own CPU lattice has for the photographs. Instructions come from the disassembly
in benchmarks/results/kernel_instructions.json (kernel_instructions.py makes it), as many as the
shortest way through the loops takes. "floor" is the largest of these parts, and the time between
launches: a kernel cannot be faster, and one that waits for memory is slower. "uncached" is the same
where no cache keeps anything from one kernel, or one access, to the next; "by bytes" is the floor
if instructions took no time. Goals of speed against
cuDNN are compared with cuDNN's own floor.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

from _roofline import Bound, Ceilings, rows_of
from _roofline_work import Workload, all_workloads

RESULTS = Path(__file__).parent / "results"
DISCLAIMER = "arithmetic over ceilings, some of them assumed: not a measurement"
# option -> (field of Ceilings, what one unit of it is)
OPTIONS = {
    "device-tb-s": ("device", 1e12),
    "l2-tb-s": ("l2", 1e12),
    "l1-tb-s": ("l1", 1e12),
    "l2-mb": ("l2_bytes", 1e6),
    "fp32-tflops": ("fp32", 1e12),
    "bf16-tflops": ("tensor16", 1e12),
    "issue-ghz": ("issue", 132 * 4 * 1e9),
    "launch-us": ("launch", 1e-6),
}


@cache
def sass_loops() -> dict[str, list[dict]]:
    """The loops of each kernel on sm_90, by file and name."""
    path = RESULTS / "kernel_instructions.json"
    rows = json.loads(path.read_text())["kernels"] if path.exists() else []
    return {f"{r['file']} {r['kernel']}": r["loops"] for r in rows if "loops" in r}


def result(work: Workload, rows: list[Bound]) -> dict:
    total = sum(r.floor_us for r in rows)
    return {
        "name": work.name,
        "floor_us": total,
        "bytes_us": sum(r.bytes_us for r in rows),
        "launch_us": sum(r.launch_us for r in rows),
        "uncached_us": sum(r.uncached_us + r.launch_us for r in rows),
        "goal_us": work.goal_us,
        "goal": work.goal,
        "goal_over_floor": work.goal_us / total,
        "kernels": [kernel_result(r) for r in rows],
    }


def kernel_result(row: Bound) -> dict:
    parts = {name: us for name, us in row.parts.items() if us}
    return asdict(row) | {"parts": parts, "floor_us": row.floor_us, "by": row.by}


def write(path: Path, head: dict, results: list[dict]) -> None:
    """A kernel a line, four digits: they are not known better."""

    def line(value: dict) -> str:
        short = json.loads(json.dumps(value), parse_float=lambda n: float(f"{float(n):.4g}"))
        return json.dumps(short)

    works = []
    for r in results:
        kernels = ",\n      ".join(line(kernel) for kernel in r["kernels"])
        works.append(line(r | {"kernels": 0})[:-2] + f"[\n      {kernels}\n    ]}}")
    joined = ",\n    ".join(works)
    path.write_text(line(head)[:-1] + f', "results": [\n    {joined}\n]}}\n')


def kernel_table(found: dict, rows: list[Bound]) -> Table:
    out = Table(title=found["name"], caption=DISCLAIMER)
    for name in ("phase", "kernel"):
        out.add_column(name)
    heads = "launches MB asked device Mflop Minstr work launch floor uncached"
    for name in heads.split():
        out.add_column(name, justify="right")
    out.add_column("bound by")
    for r in rows:
        numbers = [r.unique / 1e6, r.asked / 1e6, r.device / 1e6, r.flops / 1e6]
        cells = [f"{n:.1f}" for n in numbers]
        cells += ["" if r.instructions is None else f"{r.instructions / 1e6:.2f}"]
        cells += [f"{n:.1f}" for n in (r.work_us, r.launch_us, r.floor_us)]
        cells += [f"{r.uncached_us + r.launch_us:.1f}"]
        out.add_row(r.phase, r.kernel, str(r.launches), *cells, r.by)
    totals = [f"{found[n]:.1f}" for n in ("launch_us", "floor_us", "uncached_us")]
    launches = str(sum(r.launches for r in rows))
    out.add_section()
    out.add_row("", "sum, us", launches, *[""] * 6, *totals, f"goal {found['goal_us']:.0f}")
    return out


def summary(results: list[dict]) -> Table:
    out = Table(title="floors beside goals, microseconds", caption=DISCLAIMER)
    out.add_column("work")
    for name in ("floor", "by bytes", "launches", "uncached", "goal", "goal / floor"):
        out.add_column(name, justify="right")
    out.add_column("the goal")
    for r in results:
        names = ("floor_us", "bytes_us", "launch_us", "uncached_us", "goal_us")
        numbers = [f"{r[name]:.0f}" for name in names]
        out.add_row(r["name"], *numbers, f"{r['goal_over_floor']:.2f}", r["goal"])
    return out


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voc", type=Path, metavar="FOLDER", help="see crf_on_voc_scores.py")
    parser.add_argument("--photos", type=int, default=9, help="of that folder, for each lattice")
    parser.add_argument("--only", default="", help="only work whose name contains this")
    parser.add_argument("--brief", action="store_true", help="no table of kernels")
    for option, (name, unit) in OPTIONS.items():
        default = getattr(Ceilings, name) / unit
        parser.add_argument(f"--{option}", type=float, default=default, help=f"{default:g}")
    parser.add_argument("--json", type=Path, help="such as results/roofline_h200.json")
    return parser.parse_args()


def main() -> None:
    args = parse()
    chosen = vars(args)
    ceilings = Ceilings(
        **{n: chosen[o.replace("-", "_")] * unit for o, (n, unit) in OPTIONS.items()}
    )
    console, results = Console(width=170), []
    for work in all_workloads(args, ceilings):
        if args.only not in work.name:
            continue
        rows = rows_of(work.phases, ceilings, sass_loops().get)
        results.append(result(work, rows))
        if not args.brief:
            console.print(kernel_table(results[-1], rows))
    console.print(summary(results))
    if not sass_loops():
        print("no kernel_instructions.json: instructions bound nothing here")
    if args.json:
        photos = args.voc.name if args.voc else "matplotlib's sample"
        head = {"what": DISCLAIMER, "photographs": photos, "ceilings": asdict(ceilings)}
        write(args.json, head, results)


if __name__ == "__main__":
    main()
