"""`deeplab-native demo`: the package's network and the dense CRF on a photograph."""

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

_RUNS = 5


def run(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the picture.")] = Path(
        "deeplab-native-demo"
    ),
    iterations: options.Iterations = 10,
    threads: options.Threads = None,
) -> None:
    """Find a person with the package's network, refine the outline, time it. Needs no download."""
    import torch

    from .. import _C, CRFParams, dense_crf
    from ..models import predict
    from ..weights import EMBEDDED, EMBEDDED_SIDE, load_model
    from . import console
    from .demo_figure import save_figure, trace
    from .demo_photo import CREDIT, photograph

    threads = options.use_threads(threads)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} is a file (give a folder)")
    out.mkdir(parents=True, exist_ok=True)
    picture = out / "crf_demo.png"
    options.check_outputs([picture], inputs=[])

    network = load_model(EMBEDDED)
    params = network.crf or CRFParams()
    person = (network.class_names or ()).index("person")
    photo = photograph()
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].contiguous()
    unary = -predict(network, photo, longest_side=EMBEDDED_SIDE).scores[None].log_softmax(1)

    with console.status(f"Timing {_RUNS} runs on {threads} threads"):
        rows = {
            "network": _seconds(lambda: predict(network, photo, longest_side=EMBEDDED_SIDE)),
            f"dense CRF, {iterations} iterations": _seconds(
                lambda: dense_crf(unary, image, params, iterations=iterations)
            ),
        }
    with console.status("Drawing"):
        steps = trace(unary, image, params, iterations=iterations, label=person)
        save_figure(
            picture,
            photo=photo,
            steps=steps,
            name="person",
            label=person,
            notes=f"{network.name}, {network.num_classes} classes; CRF {options.describe(params)}\n"
            f"{CREDIT}",
        )
    height, width = photo.shape[:2]
    table = console.table(
        f"{width} x {height}, {network.num_classes} labels", "threads", "instructions", "latency"
    )
    for name, seconds in rows.items():
        table.add_row(name, str(threads), _C.isa(), f"{seconds * 1e3:.1f} ms")
    console.out.print(table)
    console.out.print(CREDIT)
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
