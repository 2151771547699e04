"""`deeplab-native train`: a net from a configuration file and a data set."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from . import options

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native train voc.yaml --data-root VOCdevkit -o runs/voc[/]

[cyan]deeplab-native train voc12/table3_aspp_l --set model.weights=FILE ...[/] (the paper's)

[cyan]deeplab-native train voc.yaml -o runs/voc --resume[/]

[cyan]torchrun --no-python --nproc-per-node 4 deeplab-native train voc.yaml -o runs/voc[/]

Ctrl-C and SIGTERM write a checkpoint first. OUTPUT gets net.safetensors, report.html, to look at,
checkpoints/, training.csv, validation.csv, pictures/, tensorboard/ and config.yaml, the
configuration with all its defaults."""

# of the extra `train`: module and package
_EXTRA = (
    ("lightning", "lightning"),
    ("pydantic", "pydantic"),
    ("yaml", "pyyaml"),
    ("tensorboard", "tensorboard"),
)


def _check_extra() -> None:
    for module, package in _EXTRA:
        if find_spec(module) is None:
            raise ImportError(
                f"{package} is missing (install it with pip install 'deeplab_native[train]')"
            )


def _list(wanted: bool) -> None:
    if not wanted:
        return
    _check_extra()
    from ..training.config_file import load_config, shipped_configs
    from . import console

    table = console.table("configuration", "the paper's mIOU, %", "with the CRF")
    for name, path in shipped_configs().items():
        paper = load_config(path).paper
        figures = (paper.miou, paper.miou_crf) if paper else (None, None)
        cells = ("" if figure is None else f"{figure:.2f}" for figure in figures)
        table.add_row(name, *cells)
    console.out.print(table)
    raise typer.Exit


def run(
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="YAML file, or a configuration that --list names."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the run.")],
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the data set, for data.root.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.SUB=VALUE", help="A value of the configuration."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or cuda, for accelerator. Default: the configuration's."),
    ] = None,
    threads: options.Threads = None,
    resume: options.Resume = False,
    write_report: options.Report = True,
    json: options.Json = False,
    list_: Annotated[
        bool,
        typer.Option(
            "--list", callback=_list, is_eager=True, help="The paper's configurations, one a row."
        ),
    ] = False,
) -> None:
    """Train a net on a data set."""
    _check_extra()
    from ..training.config_file import find_config, load_config
    from ..training.memory import keep_freed_memory
    from ..training.run import train
    from . import console, repeat

    keep_freed_memory()
    overrides = [*(changes or [])]
    if data_root is not None:
        overrides.append(f"data.root={data_root.resolve()}")
    if device is not None:
        overrides.append(f"accelerator={device}")
    if threads is not None:
        overrides.append(f"threads={threads}")
    chosen = load_config(find_config(config), overrides)
    outcome = train(chosen, output, resume=resume, report=write_report, command=repeat.command())
    failures = outcome.failures
    if failures:
        console.err.print(f"{len(failures)} samples could not be used:")
        for message in failures.values():
            console.err.print(f"  {message}", soft_wrap=True)
    if outcome.interrupted_by:
        console.err.print(
            f"interrupted after {outcome.iteration} of {chosen.iterations} iterations: "
            "the same command with --resume goes on from there",
            soft_wrap=True,
        )
        raise typer.Exit(128 + outcome.interrupted_by)
    rows = [("iterations", str(outcome.iteration)), ("weights", str(outcome.weights))]
    if outcome.scores is not None:
        rows.insert(1, ("mean IoU", f"{100 * outcome.scores.mean_iou:.2f} %"))
    values = {
        "iterations": outcome.iteration,
        "weights": outcome.weights,
        "mean_iou": None if outcome.scores is None else outcome.scores.mean_iou,
        "failures": list(failures.values()),
    }
    if json or outcome.weights is not None:
        console.result(json, values, console.facts(*rows))
