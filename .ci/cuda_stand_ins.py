"""Lets a torch built for CUDA run on the CPU without the CUDA libraries it depends on.

    pip install --no-deps torch==2.6.0
    python .ci/cuda_stand_ins.py

PyPI has torch for x86_64 as a CUDA build only, which loads cuBLAS, cuDNN, NCCL and so on at import:
3 GB more, of which tests on the CPU call nothing. This puts one small library in their place, under
all their names, in torch's own folder, where the loader looks. It has every function that torch's
libraries miss, and each returns 100, `cudaErrorNoDevice`: a driver without a GPU. Needs gcc and
readelf.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

NAME = "libcuda_stand_in.so"
UNVERSIONED = "stand_in"  # in a map of versions every symbol has one; such references take any
NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")
SYMBOL = re.compile(r"\d+: \w+ +\d+ (\w+) +(\w+) +\w+ +(\w+) ([^@\s]+)(?:@@?(\S+))?")


def readelf(path: Path, option: str) -> str:
    command = ["readelf", "--wide", option, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def missing_libraries(folder: Path) -> set[str]:
    """What the libraries of a folder need, and neither the folder nor the system has."""
    paths = list(folder.glob("*.so*"))
    needed = {name for path in paths for name in NEEDED.findall(readelf(path, "--dynamic"))}
    missing = set()
    for name in needed - {path.name for path in paths}:
        try:
            ctypes.CDLL(name, ctypes.RTLD_GLOBAL)  # then missing_symbols finds what it has
        except OSError:
            missing.add(name)
    return missing


def missing_functions(folder: Path) -> dict[str, str]:
    """What the libraries of a folder expect of others that are not there, each with its version.

    The version is an empty string where they expect none.
    """
    defined, wanted, data = set(), {}, set()
    for path in folder.glob("*.so*"):
        for kind, binding, section, name, version in SYMBOL.findall(readelf(path, "--dyn-syms")):
            if section != "UND":
                defined.add(name)
            elif binding == "GLOBAL":
                wanted[name] = version or wanted.get(name, "")
                if kind == "OBJECT":
                    data.add(name)
    here = ctypes.CDLL(None)  # of this process: Python, the C library, what was loaded above
    missing = {n: v for n, v in wanted.items() if n not in defined and not hasattr(here, n)}
    if data & missing.keys():
        raise SystemExit(f"{folder}: stand-ins have functions only, not {data & missing.keys()}")
    return missing


def build(target: Path, functions: dict[str, str]) -> None:
    """Compiles a library of these functions, in their versions."""
    source = ["int no_device(void) { return 100; }"]
    source += [f'int {name}(void) __attribute__((alias("no_device")));' for name in functions]
    versions = defaultdict(list)
    for name, version in functions.items():
        versions[version or UNVERSIONED].append(f"{name};")
    with tempfile.TemporaryDirectory() as folder:
        code, script = Path(folder, "stand_in.c"), Path(folder, "versions.map")
        code.write_text("\n".join(source) + "\n")
        script.write_text(
            "".join(f"{v} {{ {' '.join(names)} }};\n" for v, names in versions.items())
        )
        how = ["-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{NAME}"]
        how += [f"-Wl,--version-script={script}"]
        subprocess.run(["gcc", *how, "-o", str(target), str(code)], check=True)


def main() -> None:
    torch = importlib.util.find_spec("torch")  # is not imported
    if torch is None or torch.origin is None:
        raise SystemExit(f"{sys.executable}: has no torch")
    folder = Path(torch.origin).parent / "lib"
    libraries = missing_libraries(folder)
    if not libraries:
        print(f"{folder}: all that torch needs is there")
        return
    functions = missing_functions(folder)
    build(folder / NAME, functions)
    for library in libraries:
        (folder / library).symlink_to(NAME)
    print(f"{folder}: {len(functions)} functions stand in for {', '.join(sorted(libraries))}")


if __name__ == "__main__":
    main()
