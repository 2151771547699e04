"""Registers, spills, stack and static shared memory of every CUDA kernel, beside a kept baseline.

    .ci/kernel_report.py                 # compare with benchmarks/results/kernels.json
    .ci/kernel_report.py --update        # and make what is there now the baseline
    .ci/kernel_report.py --out report.csv --arch 90 csrc/cuda/space_to_batch.cu

Needs nvcc (CUDACXX names another), and no GPU. Exit code 1 where a kernel spills registers or has a
stack frame that the baseline does not know: both go to device memory, and are there by accident
more often than not. A kernel that means it (a small array indexed at run time) goes into the
baseline with --update, in a commit that says why.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from _nvcc import (  # noqa: E402
    compile_cubin,
    find_nvcc,
    for_each_build,
    key,
    name_kernels,
    nvcc_version,
    read_ptxas,
)

BASELINE = ROOT / "benchmarks" / "results" / "kernels.json"
ARCHITECTURES = ["75", "80", "90"]
BAD = ("spill_stores", "spill_loads", "stack")


def parse(report: str, file: str, arch: str) -> list[dict]:
    """One row per kernel of a file, for one architecture."""
    return name_kernels(read_ptxas(report, file, arch))


def compare(rows: list[dict], baseline: list[dict]) -> tuple[list[str], list[str]]:
    """(what fails, what is only worth knowing) against the baseline."""
    known = {key(row): row for row in baseline}
    errors, notes = [], []
    for row in rows:
        before = known.get(key(row))
        for what in BAD:
            had = before[what] if before else 0
            if row[what] and not had:
                since = "had none" if before else "is not in the baseline"
                errors.append(
                    f"{key(row)}: {row[what]} bytes of {what.replace('_', ' ')}; it {since}"
                )
            elif row[what] != had:
                notes.append(f"{key(row)}: {what.replace('_', ' ')} {had} -> {row[what]} bytes")
        if before is None:
            notes.append(f"{key(row)}: new, {row['registers']} registers")
        elif row["registers"] != before["registers"]:
            notes.append(f"{key(row)}: registers {before['registers']} -> {row['registers']}")
    now = {key(row) for row in rows}
    notes += [f"{name}: gone" for name in known if name not in now]
    return errors, notes


def write(path: Path, rows: list[dict], version: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["file", "kernel", "arch", "registers", *BAD, "static_shared"]
    rows = [{column: row[column] for column in columns} for row in rows]
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(rows)
        return
    lines = ",\n".join("    " + json.dumps(row) for row in rows)  # a kernel a line, for diffs
    path.write_text(f'{{\n  "nvcc": {json.dumps(version)},\n  "kernels": [\n{lines}\n  ]\n}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path, help="default: csrc/cuda/*.cu")
    parser.add_argument("--arch", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--out", type=Path, help="write the report there: .json or .csv")
    parser.add_argument("--update", action="store_true", help="write the baseline")
    args = parser.parse_args()
    nvcc = find_nvcc()
    if args.update and (args.sources or args.arch != ARCHITECTURES):
        parser.error("--update takes every file and architecture")

    def build(source: Path, arch: str, folder: str) -> list[dict]:
        report = compile_cubin(nvcc, source, arch, folder, "-Werror=all-warnings")
        return parse(report, source.name, arch)

    rows = for_each_build(build, args.sources, args.arch)
    version = nvcc_version(nvcc)
    print(f"{len({key(row).rpartition(' ')[0] for row in rows})} kernels, nvcc {version}")
    if args.out:
        write(args.out, rows, version)

    kept = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"nvcc": None, "kernels": []}
    names, archs = {path.name for path in args.sources}, {f"sm_{arch}" for arch in args.arch}
    baseline = [r for r in kept["kernels"] if r["file"] in names or not args.sources]
    errors, notes = compare(rows, [r for r in baseline if r["arch"] in archs])
    print("\n".join(notes or ["no kernel's registers changed"]))
    if kept["nvcc"] != version:
        print(f"the baseline is of nvcc {kept['nvcc']}: other versions allocate differently")
    if args.update:
        write(BASELINE, rows, version)
        print(f"{BASELINE.relative_to(ROOT)}: written")
    elif errors:
        print("\n".join(errors), file=sys.stderr)
        sys.exit("new spills or stack frames; where they are meant: .ci/kernel_report.py --update")


if __name__ == "__main__":
    main()
