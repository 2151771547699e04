"""Registers, occupancy and instructions of every CUDA kernel, from the compiled code.

    python benchmarks/kernel_instructions.py                # all kernels, for sm_80, sm_90, sm_100
    python benchmarks/kernel_instructions.py csrc/cuda/mean_field.cu --arch 90
    python benchmarks/kernel_instructions.py --table        # of what the file already says

Needs no GPU but nvcc, and nvdisasm for the instructions: it comes with the CUDA toolkit (package
cuda-nvdisasm-13-0, or the wheel nvidia-cuda-nvdisasm). Results go to
benchmarks/results/kernel_instructions.json, a kernel a line; the rows of other files and
architectures stay.

Instructions are counted as they stand in the code, not as they run. "calls" are subroutines such as
the division of 64-bit integers; "divisions" those in line, for operands below 2^32. "loops", of
sm_90 alone, say what one turn takes. Warps are those that registers, shared memory and block size
allow a multiprocessor.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from _nvcc import (
    ROOT,
    compile_cubin,
    find_nvcc,
    for_each_build,
    key,
    name_kernels,
    nvcc_version,
    read_ptxas,
)
from _occupancy import occupancy
from _sass import calls, count, inlined_divisions, loops, read_sass

RESULTS = ROOT / "benchmarks" / "results" / "kernel_instructions.json"
ARCHITECTURES = ["80", "90", "100"]
LOOPS_OF = "sm_90"  # the architecture of roofline.py
NO_NVDISASM = "no nvdisasm on PATH: no instructions are counted (package cuda-nvdisasm-13-0)"
PTXAS = ("file", "mangled", "arch", "registers", "static_shared")  # what is kept of its report

FP32 = ("FFMA", "FADD", "FMUL")

_ENTRY = re.compile(r"\.entry (\w+)\(")
_THREADS = re.compile(r"\.(?:maxntid|reqntid) (\d+)(?:, (\d+), (\d+))?")
_MIN_BLOCKS = re.compile(r"\.minnctapersm (\d+)")


def read_ptx(text: str) -> dict[str, dict]:
    """Launch bounds by mangled name: the most threads of a block (None: not said), least blocks.

    "dynamic_shared": the module has shared memory whose size the launch gives.
    """
    rows = {}
    dynamic = ".extern .shared" in text
    for part in re.split(r"(?=\.entry )", text)[1:]:
        head = part[: part.find("{")] if "{" in part else part
        threads, blocks = _THREADS.search(head), _MIN_BLOCKS.search(head)
        size = 1
        for n in threads.groups() if threads else ():
            size *= int(n or 1)
        rows[_ENTRY.match(part)[1]] = {
            "block": size if threads else None,
            "min_blocks": int(blocks[1]) if blocks else None,
            "dynamic_shared": dynamic,
        }
    return rows


def describe(rows: list[dict], ptx: str, sass: str | None) -> list[dict]:
    """The rows of `ptxas -v` with bounds, occupancy and, where there is SASS, instructions."""
    bounds, code = read_ptx(ptx), read_sass(sass) if sass else {}
    described = []
    for row in rows:
        row = {name: row[name] for name in PTXAS} | bounds[row["mangled"]]
        if row["block"] and not row["dynamic_shared"]:
            row |= occupancy(row["arch"], row["block"], row["registers"], row["static_shared"])
        if found := code.get(row["mangled"]):
            row["instructions"] = len(found.own)
            row["classes"] = count(found.own)
            row["calls"] = calls(found)
            row["divisions"] = inlined_divisions(found)
            row["subroutines"] = {name: len(body) for name, body in found.subroutines.items()}
            if row["arch"] == LOOPS_OF:
                row["loops"] = loops(found)
        described.append(row)
    return [
        {"file": row.pop("file"), "kernel": row.pop("kernel")} | row
        for row in name_kernels(described)
    ]


def build(nvcc: str, nvdisasm: str | None, source: Path, arch: str, folder: str) -> list[dict]:
    report = compile_cubin(nvcc, source, arch, folder, "--keep", "--keep-dir", folder)
    ptx = (Path(folder) / source.with_suffix(".ptx").name).read_text()
    sass = None
    if nvdisasm:
        command = [nvdisasm, "-c", f"{folder}/kernels.cubin"]
        sass = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return describe(read_ptxas(report, source.name, arch), ptx, sass)


def merged(rows: list[dict], kept: dict, version: str) -> list[dict]:
    """New rows with those kept of other files and architectures, unless another nvcc made them."""
    new = {(row["file"], row["arch"]) for row in rows}
    old = kept["kernels"] if kept["nvcc"] == version else []
    return sorted([r for r in old if (r["file"], r["arch"]) not in new] + rows, key=key)


def group(classes: dict[str, int], *names: str) -> int:
    """Instructions of these classes, of any width."""
    return sum(n for name, n in classes.items() if name.partition(".")[0] in names)


def table(rows: list[dict]) -> str:
    """Columns of the numbers that matter most; the file has all of them."""
    heads = "regs smem block warps limit instr LDG STG LDS+STS LDL+STL fp32 tensor int MUFU"
    heads += " BAR SHFL atomic branch div calls"
    lines = [["kernel", *heads.split()]]
    for row in rows:
        block = str(row["block"] or "?")
        cells = [key(row), row["registers"], row["static_shared"], block]
        cells += [row.get("warps", "?"), row.get("limit", "?")]
        if (c := row.get("classes")) is not None:
            cells += [row["instructions"], by_width(c, "LDG"), by_width(c, "STG")]
            cells += [
                group(c, "LDS", "STS"),
                group(c, "LDL", "STL"),
                group(c, "FFMA", "FADD", "FMUL"),
            ]
            cells += [group(c, n) for n in ("tensor", "integer", "MUFU", "BAR", "SHFL", "atomic")]
            called = " ".join(f"{n} {name}" for name, n in row["calls"].items())
            cells += [group(c, "branch"), row["divisions"], called]
        lines.append([str(cell) for cell in cells])
    lines = [line + [""] * (len(lines[0]) - len(line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def by_width(classes: dict[str, int], name: str) -> str:
    """ "3x128 2x32" """
    found = [(int(c.partition(".")[2]), n) for c, n in classes.items() if c.startswith(f"{name}.")]
    return " ".join(f"{n}x{width}" for width, n in sorted(found, reverse=True)) or "0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path, help="default: csrc/cuda/*.cu")
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--table", action="store_true", help="print the kept file, compile nothing")
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    kept = json.loads(args.json.read_text()) if args.json.exists() else {"nvcc": "", "kernels": []}
    rows = kept["kernels"]
    if not args.table:
        nvcc, nvdisasm = find_nvcc(), shutil.which("nvdisasm")
        version = nvcc_version(nvcc)
        rows = for_each_build(lambda *job: build(nvcc, nvdisasm, *job), args.sources, args.arch)
        lines = ",\n".join("    " + json.dumps(row) for row in merged(rows, kept, version))
        text = f'{{\n  "nvcc": {json.dumps(version)},\n  "kernels": [\n{lines}\n  ]\n}}\n'
        args.json.write_text(text)
        if nvdisasm is None:
            print(NO_NVDISASM, file=sys.stderr)
    print(table([row for row in rows if row["arch"].removeprefix("sm_") in args.arch]))


if __name__ == "__main__":
    main()
