"""`deeplab-native demo`: the package's network and the dense CRF on a photograph."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from . import options

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native demo[/]  writes deeplab-native-demo/crf_demo.png

[cyan]deeplab-native demo --threads 1 -o pictures[/]"""

_RUNS = 5


def run(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the picture.")] = Path(
        "deeplab-native-demo"
    ),
    iterations: options.Iterations = 10,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Find a person with the package's network, refine the outline, time it. Needs no download."""
    import torch

    from .. import _C, dense_crf
    from ..demo.figure import save_figure, trace
    from ..demo.photo import CREDIT, photograph
    from ..jobs._engine import check_output_folder
    from ..models import predict
    from ..weights import EMBEDDED, EMBEDDED_SIDE, load_model
    from . import console, report

    threads = options.use_threads(threads)
    check_output_folder(output, [])
    output.mkdir(parents=True, exist_ok=True)
    picture = output / "crf_demo.png"
    options.check_outputs([picture], inputs=[])

    network = load_model(EMBEDDED)
    params = network.crf
    assert params is not None  # the embedded net's file has them
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
            notes=f"{network.name}, {network.num_classes} classes; CRF {report.describe(params)}\n"
            f"{CREDIT}",
        )
    height, width = photo.shape[:2]
    table = console.table(
        f"{width} x {height}, {network.num_classes} labels", "threads", "instructions", "latency"
    )
    for name, seconds in rows.items():
        table.add_row(name, str(threads), _C.isa(), f"{seconds * 1e3:.1f} ms")
    values = {
        "height": height, "width": width, "labels": network.num_classes, "threads": threads,
        "instructions": _C.isa(), "seconds": rows, "written": [picture],
    }  # fmt: skip
    console.result(json, values, table, Text(f"{CREDIT}\nwritten: {picture}"))


def _seconds(function: Callable[[], object]) -> float:
    """Median of the runs after one that warms caches and threads up."""
    function()
    times = []
    for _ in range(_RUNS):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return median(times)
