"""How many threads a new CRF gets."""

from __future__ import annotations

import os
import sys

from ._checks import integer

_chosen: int | None = None


def set_num_threads(n: int | None) -> None:
    """Threads of every DenseCRF made from now on in this process, and in those it forks.

    `n`: at least 1, or None for the default, see `get_num_threads`. Results are the same, bit by
    bit, at the same number of threads; between numbers they differ by rounding.
    """
    global _chosen
    _chosen = None if n is None else integer("n", n, least=1)


def get_num_threads() -> int:
    """Threads that a DenseCRF made now gets.

    What `set_num_threads` says, else OMP_NUM_THREADS, else 1 in a child of multiprocessing (joblib,
    a DataLoader's worker), where the other children have work for the other cores, else the cores
    that this process may run on.
    """
    if _chosen is not None:
        return _chosen
    return _from_environment() or (1 if _is_worker() else _cores())


def _from_environment() -> int | None:
    """OMP_NUM_THREADS: a number, or one for each level of nesting; what is neither is ignored."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def _is_worker() -> bool:
    # A child of multiprocessing has loaded it: nobody else needs to pay for the import.
    multiprocessing = sys.modules.get("multiprocessing.process")
    return multiprocessing is not None and multiprocessing.parent_process() is not None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
