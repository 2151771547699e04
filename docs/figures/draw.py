"""Draws the figures of docs/explanation/, from the package's own ops.

    python docs/figures/draw.py             # all of them
    python docs/figures/draw.py --check     # says which are not what the ops give now
    python docs/figures/draw.py aspp_taps.svg

A figure keeps the numbers that it shows in its metadata, and what its page must say of them.
--check draws into a temporary folder and compares the numbers: to 1 %, or 2e-4, as other processors
and libraries round otherwise.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[1])]  # the second: python_tests

import _aspp  # noqa: E402
import _atrous  # noqa: E402
import _lattice  # noqa: E402
import _mean_field  # noqa: E402
from _drawing import Drawing, kept, save  # noqa: E402

PAGES = {
    "atrous_convolution": _atrous.FIGURES,
    "aspp": _aspp.FIGURES,
    "lattice": _lattice.FIGURES,
    "mean_field": _mean_field.FIGURES,
}
_TOLERANCE = 0.01
_LARGEST = 200_000


def problems(only: Collection[str] = ()) -> list[str]:
    """What is not as the ops give it, what a page does not say, and files that are too large."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for page, name, compute in figures(only):
            new, path = Path(folder) / name, FOLDER / name
            save(compute(), new)
            if not path.exists():
                found.append(f"{name}: not there")
                continue
            now, then = kept(new), kept(path)
            if not same(now["numbers"], then["numbers"]):
                found.append(f"{name}: outdated, its numbers are now {now['numbers']}")
            text = " ".join((FOLDER.parent / "explanation" / f"{page}.md").read_text().split())
            wanted = [*then["said"], f"(../figures/{name})"]
            found += [f"{page}.md does not have: {s}" for s in wanted if s not in text]
            if max(path.stat().st_size, new.stat().st_size) > _LARGEST:
                found.append(f"{name}: larger than {_LARGEST} bytes")
    return found


def figures(only: Collection[str] = ()) -> Iterator[tuple[str, str, Callable[[], Drawing]]]:
    """(page, file name, what computes it), of all or of some."""
    for page, of_page in PAGES.items():
        for name, compute in of_page.items():
            if not only or name in only:
                yield page, name, compute


def same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same, numbers with a point nearly."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=2e-4)
    return bool(one == other)


def main() -> None:
    """Draws, or checks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("only", nargs="*", help="names of figures; all without")
    parser.add_argument("--check", action="store_true", help="status 1 where one is outdated")
    arguments = parser.parse_args()
    if arguments.check:
        found = problems(arguments.only)
        sys.exit("\n".join(found) if found else 0)
    for _, name, compute in figures(arguments.only):
        save(compute(), FOLDER / name)
        print(FOLDER / name, f"{(FOLDER / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
