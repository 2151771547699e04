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
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "benchmarks" / "results" / "kernels.json"
ARCHITECTURES = ["75", "80", "90"]
# those of CMakeLists.txt in a release build
FLAGS = ["-std=c++17", "-O3", "-DNDEBUG", "-DDEEPLAB_NATIVE_WITH_CUDA", f"-I{ROOT / 'csrc'}"]
FLAGS.append('-DDEEPLAB_NATIVE_CUDA_ARCHITECTURES="none"')

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for")
_PROPERTIES = re.compile(r"Function properties for (\w+)")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
BAD = ("spill_stores", "spill_loads", "stack")


def compile_kernels(nvcc: str, source: Path, arch: str) -> list[dict]:
    """One row per kernel of a file, for one architecture."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["-cubin", "-o", f"{folder}/kernels.cubin", f"-arch=sm_{arch}", "-Xptxas", "-v"]
        done = subprocess.run([nvcc, *FLAGS, *out, source], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{source} does not compile for sm_{arch}:\n{done.stderr}")
    return parse(done.stderr, source.name, arch)


def parse(report: str, file: str, arch: str) -> list[dict]:
    """What `ptxas -v` says of the kernels of one file; device functions have no row."""
    rows: dict[str, dict] = {}
    current, described = None, None
    for line in report.splitlines():
        if match := _ENTRY.search(line):
            current = described = match[1]
            rows[current] = {"file": file, "mangled": current, "arch": f"sm_{arch}"}
        elif match := _PROPERTIES.search(line):
            described = match[1]
        elif (match := _STACK.search(line)) and described in rows:
            rows[described] |= {
                "stack": int(match[1]),
                "spill_stores": int(match[2]),
                "spill_loads": int(match[3]),
            }
        elif (match := _USED.search(line)) and current in rows:
            shared = _SHARED.search(line)
            rows[current] |= {
                "registers": int(match[1]),
                "static_shared": int(shared[1]) if shared else 0,
            }
    return name_kernels(list(rows.values()))


def name_kernels(rows: list[dict]) -> list[dict]:
    """Short names for the mangled ones; the second kernel of the same short name is "#2"."""
    if not rows:
        return rows
    names = "\n".join(row["mangled"] for row in rows)
    done = subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True)
    seen: dict[str, int] = {}
    for row, demangled in zip(rows, done.stdout.splitlines(), strict=True):
        name = short_name(demangled)
        seen[name] = seen.get(name, 0) + 1
        del row["mangled"]
        row["kernel"] = name if seen[name] == 1 else f"{name} #{seen[name]}"
    return rows


def short_name(demangled: str) -> str:
    """`void a::(anonymous namespace)::f<a::T>(int)` -> `f<T>`."""
    name = demangled.replace("(anonymous namespace)::", "").removeprefix("void ")
    depth, end = 0, len(name)
    for i, letter in enumerate(name):  # the parameters begin at the first ( outside of < >
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            end = i
            break
    return re.sub(r"\b[A-Za-z_]\w*::", "", name[:end])


def key(row: dict) -> str:
    return f"{row['file']} {row['kernel']} {row['arch']}"


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


def nvcc_version(nvcc: str) -> str:
    done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"V(\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path, help="default: csrc/cuda/*.cu")
    parser.add_argument("--arch", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--out", type=Path, help="write the report there: .json or .csv")
    parser.add_argument("--update", action="store_true", help="write the baseline")
    args = parser.parse_args()
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
    if nvcc is None:
        sys.exit("no nvcc on PATH: install the CUDA toolkit or set CUDACXX")
    if args.update and (args.sources or args.arch != ARCHITECTURES):
        parser.error("--update takes every file and architecture")

    every = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    jobs = [(source, arch) for source in args.sources or every for arch in args.arch]
    # the longest files first, so that none begins when all others are done
    jobs.sort(key=lambda job: -job[0].stat().st_size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = list(pool.map(lambda job: compile_kernels(nvcc, *job), jobs))
    rows = sorted((row for part in parts for row in part), key=key)
    version = nvcc_version(nvcc)
    print(f"{len({key(row).rpartition(' ')[0] for row in rows})} kernels, nvcc {version}")
    if args.out:
        write(args.out, rows, version)

    kept = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"nvcc": None, "kernels": []}
    names, archs = {job[0].name for job in jobs}, {f"sm_{arch}" for arch in args.arch}
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
