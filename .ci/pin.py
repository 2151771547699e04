"""Versions of all that the tests install, in .ci/constraints.txt: CI takes these, users need not.

    python .ci/pin.py             # fails where something is in another version, or not pinned
    python .ci/pin.py --update    # writes the file, of what is installed

It looks at what `deeplab_native[test]` and its build need, and what these need, and so on, in the
environment in which it runs; what else is installed there is left out. To raise all: `UNPINNED=1
.ci/run`, and where it passes, --update in its environment, or in a new one with `pip install
torch==2.13.0 '.[test]'`. Dependabot proposes single ones.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
FILE = HERE / "constraints.txt"
HEAD = """\
# Made by `python .ci/pin.py --update`, of an environment in which all tests passed, on Python 3.11.
# .ci/run takes these versions and no others (PIP_CONSTRAINT); `pip install` of a user does not.
"""
OF_TORCH = ("nvidia-", "cuda-", "triton")  # with CUDA; it names their versions itself
BUILD = ("scikit-build-core", "pybind11", "pathspec", "packaging")


def installed() -> dict[str, str]:
    """Name to version of the closure, without the package itself."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [Requirement("deeplab_native[test]"), *map(Requirement, BUILD)]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        new = {(name, extra) for extra in (*wanted.extras, "")} - seen
        seen |= new
        try:
            there = distribution(wanted.name)
        except PackageNotFoundError:
            continue  # for another system, or of the build's own environment
        if name.startswith(OF_TORCH):
            continue
        if name != "deeplab-native":
            found[name] = there.version.partition("+")[0]  # torch's 2.13.0+cpu is 2.13.0
        for text in there.requires or ():
            one = Requirement(text)
            for _, extra in new:
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    todo.append(one)
    return dict(sorted(found.items()))


def pinned() -> dict[str, str]:
    """Name to version, as the file says."""
    lines = re.findall(r"^([\w.-]+)==(\S+)$", FILE.read_text(encoding="utf-8"), re.M)
    return {str(canonicalize_name(name)): version for name, version in lines}


def problems(there: dict[str, str], pins: dict[str, str]) -> list[str]:
    """What is there and not pinned, or in another version."""
    return [
        f"{name} {version}: {f'pinned is {pins[name]}' if name in pins else 'not pinned'}"
        for name, version in there.items()
        if pins.get(name) != version
    ]


def main() -> int:
    if sys.argv[1:] == ["--update"]:
        lines = [f"{name}=={version}\n" for name, version in installed().items()]
        FILE.write_text(HEAD + "".join(lines), encoding="utf-8")
        return 0
    found = problems(installed(), pinned())
    print("\n".join(found) or f"{len(pinned())} packages are pinned, and installed as they are")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
