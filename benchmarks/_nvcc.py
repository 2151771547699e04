"""What nvcc and `ptxas -v` say of the kernels in csrc/cuda; needs no GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# those of CMakeLists.txt in a release build
FLAGS = ["-std=c++17", "-O3", "-DNDEBUG", "-DDEEPLAB_NATIVE_WITH_CUDA", f"-I{ROOT / 'csrc'}"]
FLAGS.append('-DDEEPLAB_NATIVE_CUDA_ARCHITECTURES="none"')

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for")
_PROPERTIES = re.compile(r"Function properties for (\w+)")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def find_nvcc() -> str:
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
    if nvcc is None:
        sys.exit("no nvcc on PATH: install the CUDA toolkit or set CUDACXX")
    return nvcc


def nvcc_version(nvcc: str) -> str:
    done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"V(\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else "unknown"


def compile_cubin(nvcc: str, source: Path, arch: str, folder: str, *options: str) -> str:
    """Compiles to folder/kernels.cubin for one architecture; returns the report of ptxas."""
    out = ["-cubin", "-o", f"{folder}/kernels.cubin", f"-arch=sm_{arch}", "-Xptxas", "-v"]
    done = subprocess.run([nvcc, *FLAGS, *out, *options, source], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{source} does not compile for sm_{arch}:\n{done.stderr}")
    return done.stderr


def for_each_build(
    run: Callable[[Path, str, str], list[dict]], sources: Sequence[Path], archs: Sequence[str]
) -> list[dict]:
    """The rows of run(source, architecture, a folder of its own), sorted; of all files or some."""
    every = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    jobs = [(source, arch) for source in sources or every for arch in archs]
    # the longest files first, so that none begins when all others are done
    jobs.sort(key=lambda job: -job[0].stat().st_size)

    def in_folder(job: tuple[Path, str]) -> list[dict]:
        with tempfile.TemporaryDirectory() as folder:
            return run(*job, folder)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return sorted((row for part in pool.map(in_folder, jobs) for row in part), key=key)


def read_ptxas(report: str, file: str, arch: str) -> list[dict]:
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
    return list(rows.values())


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
