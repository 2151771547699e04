"""The part of bench_crf.py that runs on a GPU: whole calls, graph replays, the lattices alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import torch
from rich.table import Table

from _cuda_timing import Inputs, time_cuda, time_graph
from deeplab_native import CRFParams, MeanField, dense_crf

ROTATING = 3  # sets of inputs


def rotated(unary: torch.Tensor, image: torch.Tensor, batch: int, device: str) -> Inputs:
    """Sets of `batch` images each, all different: the photograph, shifted, with its scores."""
    sets = []
    for first in range(0, ROTATING * batch, batch):
        shifts = [7 * (first + i) for i in range(batch)]
        pair = (torch.cat([t.roll(s, -1) for s in shifts]).to(device) for t in (unary, image))
        sets.append(tuple(pair))
    return sets


def bench_cuda(
    params: CRFParams,
    unary: torch.Tensor,
    image: torch.Tensor,
    *,
    batch: int,
    iterations: int,
    device: str,
    min_time: float,
    peer: Callable[[], object] | None,
) -> dict:
    """Seconds per call for a batch; a variant that fails has its error in place of the times."""
    inputs = rotated(unary, image, batch, device)
    whole = partial(dense_crf, params=params, iterations=iterations)
    build = partial(MeanField.from_image, params=params)  # lattices and their normalisations
    variants = {
        "whole": partial(time_cuda, whole, inputs),
        "graph": partial(time_graph, whole, inputs),
        "build": partial(time_cuda, build, inputs),
        "build graph": partial(time_graph, build, inputs),
    }
    result: dict = {"batch": batch, "timings": {}, "errors": {}}
    for name, run in variants.items():
        try:
            result["timings"][name] = asdict(run(min_time_s=min_time))
        except Exception as error:
            result["errors"][name] = f"{type(error).__name__}: {error}".splitlines()[0]
    if peer is not None and batch == 1:
        peer()
        start = time.perf_counter()
        peer()
        seconds = time.perf_counter() - start
        result["timings"]["pydensecrf"] = {"median": seconds, "runs": 1}
        fastest = min(
            (result["timings"][n]["median"] for n in ("whole", "graph") if n in result["timings"]),
            default=None,
        )
        if fastest:
            result["ratio"] = seconds / fastest
    return result


def table_cuda(results: list[dict], title: str) -> Table:
    out = Table(title=title, caption="milliseconds per call, median; build: lattices of a batch")
    columns = ["whole", "graph", "build", "build graph", "pydensecrf"]
    for i, name in enumerate(["case", "batch", *columns, "images/s", "x"]):
        out.add_column(name, justify="right" if i else "left")
    for result in results:
        timings = result["timings"]
        cells = [
            f"{1e3 * timings[name]['median']:.3f}"
            if name in timings
            else result["errors"].get(name, "")[:40]
            for name in columns
        ]
        best = min((timings[n]["median"] for n in ("whole", "graph") if n in timings), default=0)
        speed = f"{result['batch'] / best:.0f}" if best else ""
        ratio = f"{result['ratio']:.0f}" if "ratio" in result else ""
        out.add_row(result["name"], str(result["batch"]), *cells, speed, ratio)
    return out
