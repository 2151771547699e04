"""Bits, errors, instruction sets and special values of every op, and the page of them.

python -m trust.numerics bits      # same input, same bits: runs, batches, threads, layouts
python -m trust.numerics error     # against float64, beside torch's own operators
python -m trust.numerics isa       # AVX-512, AVX2 and plain
python -m trust.numerics special   # NaN, infinities, denormal numbers, nothing
python -m trust.numerics page      # fails where these recorded something else; --update

The first takes a quarter of an hour of a core, the others some minutes. A row that does not hold
is named, and the command ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported

import torch

from trust.record import record

from . import bits, error, isa, page, special
from .cases import LARGE, SMALL

SIZES = {"small": SMALL, "large": LARGE}


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _said(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each named on stderr as it comes."""
    found = []
    for row in rows:
        words = [str(row[k]) for k in ("op", "dtype", "input", "argument", "value") if k in row]
        print(*words, *(["BROKEN", *row["broken"]] if row["broken"] else []), file=sys.stderr)
        found.append(row)
    return found


def _bits(size: str) -> dict[str, Any]:
    rows = _said(
        {
            "op": case.name,
            "dtype": _dtype(dtype),
            "differences": row,
            "reasons": dict(case.differs),
            "broken": bits.broken(case, dtype, row),
        }
        for case, dtype, row in bits.measure(bits.CASES, size)
    )
    found = [d for row in rows for d in row["differences"].values() if d is not None]
    return {
        "ops": len({row["op"] for row in rows}),
        "comparisons": len(found),
        "same": sum(not any(d) for d in found),
        "rounding": sum(any(d) for d in found) - sum(len(row["broken"]) for row in rows),
        "rows": rows,
    }


def _few_digits(errors: Mapping[str, float]) -> dict[str, float]:
    return {k: float(f"{e:.3g}") for k, e in errors.items()}


def _parts(found: dict[str, Any]) -> dict[str, Any]:
    return {
        who: {part: _few_digits(e._asdict()) for part, e in of.items()} for who, of in found.items()
    }


def _error(size: str) -> dict[str, Any]:
    rows = _said(
        {
            "op": case.name,
            "dtype": _dtype(dtype),
            "input": kind.name,
            "errors": _parts(row),
            "gates": {p: error.gate(case, dtype, kind, p, row) for p in row["ours"]},
            "broken": error.broken(case, dtype, kind, row),
        }
        for case, dtype, kind, row in error.measure(SIZES[size])
    )
    crf = [r for r in rows if r["op"].startswith("dense_crf") and "loss" not in r["op"]]
    return {
        "ops": len({row["op"] for row in rows}),
        "measured": len(rows),
        "crf_largest": max(
            r["errors"]["ours"]["out"]["absolute"] for r in crf if r["input"] == "random"
        ),
        "rows": rows,
    }


def _isa(size: str) -> dict[str, Any]:
    rows = _said(
        {
            "op": case.name,
            "dtype": _dtype(dtype),
            "sets": {
                name: {
                    "difference": of["difference"],
                    **_parts({k: v for k, v in of.items() if k != "difference"}),
                }
                for name, of in row.items()
            },
            "broken": isa.out_of_gates(case, dtype, row),
        }
        for case, dtype, row in isa.measure(SIZES[size])
    )
    return {
        "ops": len({row["op"] for row in rows}),
        "sets": list(rows[0]["sets"]),
        "largest": max(
            max(of["difference"])
            for row in rows
            if row["dtype"] == "float32"
            for of in row["sets"].values()
        ),
        "rows": rows,
    }


def _special(size: str) -> dict[str, Any]:
    rows = _said(
        {
            "op": case.name,
            "argument": where,
            "value": value,
            **found._asdict(),
            "broken": special.broken(case, where, value, found),
        }
        for case, where, value, found in special.measure(SIZES[size])
    )
    more = _said(
        {
            "op": case.name,
            "gradient_stays": special.bad_gradient(case, SIZES[size]) if case.batches else None,
            "no_image": special.empty_batch(case, SIZES[size]) if case.batches else None,
            "flushing": special.flushing(case, SIZES[size], torch.set_flush_denormal),
            "broken": special.broken_besides(case, SIZES[size]),
        }
        for case in special.CASES
    )
    return {"ops": len(more), "tried": len(rows), "rows": rows, "besides": more}


WHAT = {"bits": _bits, "error": _error, "isa": _isa, "special": _special}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*WHAT, "page", "digests"], metavar="WHAT")
    parser.add_argument("--size", choices=SIZES, default="large", help="of the maps")
    parser.add_argument("--update", action="store_true", help="write the page")
    args = parser.parse_args()
    if args.what == "page":
        return page.main(update=args.update)
    warnings.simplefilter("ignore")  # of forking, and of images that are made up
    torch.set_num_threads(1)
    if args.what == "digests":  # what `bits` asks another process for
        print(json.dumps(bits.digests(SIZES[args.size])))
        return 0
    figures = WHAT[args.what](args.size)
    broken = [row for k in ("rows", "besides") for row in figures.get(k, ()) if row["broken"]]
    figures["broken"] = len(broken)
    figures["size"] = args.size
    record(
        f"numerics_{args.what}",
        figures,
        passed=not broken,
        command=f"python -m trust.numerics {args.what}",
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
