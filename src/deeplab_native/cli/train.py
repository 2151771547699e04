"""`deeplab-native train`: a net from a configuration file and a data set."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native train voc.yaml --data-root VOCdevkit --out runs/voc[/]

[cyan]deeplab-native train voc.yaml --out runs/voc --resume[/]

[cyan]torchrun --no-python --nproc-per-node 4 deeplab-native train voc.yaml --out runs/voc[/]

Ctrl-C and SIGTERM write a checkpoint first. OUT gets net.safetensors, checkpoints/, training.csv,
validation.csv, pictures/, tensorboard/ and config.yaml, the configuration with all its defaults."""

_EXTRA = {"lightning": "lightning", "pydantic": "pydantic", "yaml": "pyyaml"}


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to train, and how.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the run.")],
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the data set, for data.root.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.SUB=VALUE", help="A value of the configuration."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last whole checkpoint in OUT.")
    ] = False,
) -> None:
    """Train a net on a data set."""
    for module, package in {**_EXTRA, "tensorboard": "tensorboard"}.items():
        if find_spec(module) is None:
            raise ImportError(
                f"{package} is missing (install it with pip install 'deeplab_native[train]')"
            )
    from ..training.config_file import load_config
    from ..training.run import train
    from . import console

    overrides = [*(changes or [])]
    if data_root is not None:
        overrides.append(f"data.root={data_root.resolve()}")
    chosen = load_config(config, overrides)
    outcome = train(chosen, out, resume=resume)
    failures = outcome.failures
    if failures:
        console.err.print(f"{len(failures)} samples could not be used:")
        for message in failures.values():
            console.err.print(f"  {message}", soft_wrap=True)
    if outcome.interrupted_by:
        console.err.print(
            f"interrupted after {outcome.iteration} of {chosen.iterations} iterations: "
            "the same command with --resume goes on from there"
        )
        raise typer.Exit(128 + outcome.interrupted_by)
    rows = [("iterations", str(outcome.iteration)), ("weights", str(outcome.weights))]
    if outcome.scores is not None:
        rows.insert(1, ("mean IoU", f"{100 * outcome.scores.mean_iou:.2f} %"))
    if outcome.weights is not None:
        console.out.print(console.facts(*rows))
