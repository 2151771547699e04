"""`deeplab-native demo`: the dense CRF on a photograph that comes with matplotlib."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native demo[/]  writes deeplab-native-demo/crf_demo.png

[cyan]deeplab-native demo --threads 1 -o pictures[/]"""

_PRESET = "voc-v1-largefov"
_RUNS = 5


def run(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the picture.")] = Path(
        "deeplab-native-demo"
    ),
    iterations: options.Iterations = 10,
    threads: options.Threads = None,
) -> None:
    """Sharpen a coarse labelling, time it, and draw it. Needs no download and no network."""
    import torch

    from .. import _C, CRFParams, dense_crf
    from . import console
    from . import demo_scores as given
    from .demo_figure import save_figure, trace

    threads = options.use_threads(threads)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} is a file (give a folder)")
    out.mkdir(parents=True, exist_ok=True)
    picture = out / "crf_demo.png"
    options.check_outputs([picture], inputs=[])
    params = CRFParams.preset(_PRESET)

    photo = given.photograph()
    height, width = photo.shape[:2]
    scores = given.full_size(given.coarse_scores(height, width), height, width)
    unary = -scores.log_softmax(1)
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].contiguous()

    with console.status(f"Timing {_RUNS} runs on {threads} threads"):
        seconds = _seconds(lambda: dense_crf(unary, image, params, iterations=iterations))
    with console.status("Drawing"):
        steps = trace(unary, image, params, iterations=iterations)
        save_figure(
            picture,
            photo=photo,
            steps=steps,
            notes=f"CRF: {options.describe(params)} (the authors' values for DeepLab-LargeFOV)\n"
            f"{given.CREDIT}. The coarse scores are drawn by hand: no network ran.",
        )
    table = console.table("dense CRF on the CPU", "threads", "instructions", "latency", "FPS")
    table.add_row(
        f"{width} x {height}, {given.NUM_LABELS} labels, {iterations} iterations",
        str(threads),
        _C.isa(),
        f"{seconds * 1e3:.1f} ms",
        f"{1 / seconds:.1f}",
    )
    console.out.print(table)
    console.out.print(f"{given.CREDIT}.\nIts coarse scores are drawn by hand: no network ran.")
    console.out.print(f"written: {picture}")


def _seconds(function: Callable[[], object]) -> float:
    """Median of the runs after one that warms caches and threads up."""
    function()
    times = []
    for _ in range(_RUNS):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return median(times)
