"""`deeplab-native train`: a net from photographs and labels, or from a configuration."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from . import options
from ._train_folder import run_folder, stop_if_interrupted

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native train photos/ -o runs/mine[/]  photos/images/ and photos/labels/, or LabelMe's
or COCO's JSON: classes, held-out photographs, schedule and time are chosen, and said

[cyan]deeplab-native train voc.yaml --data-root VOCdevkit -o runs/voc[/]

[cyan]deeplab-native train voc12/table3_aspp_l --set model.weights=FILE ...[/] (the paper's)

[cyan]deeplab-native train voc.yaml -o runs/voc --resume[/]

[cyan]torchrun --no-python --nproc-per-node 4 deeplab-native train voc.yaml -o runs/voc[/]

Ctrl-C and SIGTERM write a checkpoint first. OUTPUT gets net.safetensors, report.html, to look at,
checkpoints/, training.csv, validation.csv, pictures/, tensorboard/ and config.yaml, the
configuration with all its defaults; of a folder also data/, evaluation/ and examples/."""

# of the extra `train`: module and package
_EXTRA = (
    ("lightning", "lightning"),
    ("pydantic", "pydantic"),
    ("yaml", "pyyaml"),
    ("tensorboard", "tensorboard"),
)


_WHAT = (
    "Folder with images/ and labels/ (PNG), or with LabelMe's or COCO's JSON; or a YAML file, or a "
    "configuration that --list names."
)
_MINUTES = "Time for a folder's run. Default: what so few photographs need, at most 15."
_SIDE = "Larger photographs of a folder are reduced to this. Default: 513."


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
        typer.Argument(metavar="FOLDER|CONFIG", help=_WHAT),
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
    minutes: Annotated[float | None, typer.Option(min=0.01, metavar="M", help=_MINUTES)] = None,
    longest_side: Annotated[int | None, typer.Option(min=33, metavar="PIXELS", help=_SIDE)] = None,
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
    """Train a net on your photographs, or on a data set by a configuration."""
    _check_extra()
    from .._malloc import keep_freed_memory
    from ..training.config_file import find_config, load_config
    from ..training.run import train
    from . import console, repeat

    own = Path(config).is_dir()
    _check_options(own, config, data_root, minutes, longest_side)
    keep_freed_memory()
    overrides = [*(changes or [])]
    if data_root is not None:
        overrides.append(f"data.root={data_root.resolve()}")
    if device is not None:
        overrides.append(f"accelerator={device}")
    if threads is not None:
        overrides.append(f"threads={threads}")
    if own:
        run_folder(
            Path(config), output, minutes=minutes, longest_side=longest_side,
            overrides=overrides, resume=resume, write_report=write_report, as_json=json,
        )  # fmt: skip
        return
    chosen = load_config(find_config(config), overrides)
    outcome = train(chosen, output, resume=resume, report=write_report, command=repeat.command())
    failures = outcome.failures
    if failures:
        console.err.print(f"{len(failures)} samples could not be used:")
        for message in failures.values():
            console.err.print(f"  {message}", soft_wrap=True)
    stop_if_interrupted(outcome, chosen)
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


def _check_options(
    own: bool,
    config: str,
    data_root: Path | None,
    minutes: float | None,
    longest_side: int | None,
) -> None:
    """Raises ValueError for options of the other kind of run."""
    if own and data_root is not None:
        raise ValueError(f"--data-root: {config} is the data itself (leave it out)")
    for option, value in (("--minutes", minutes), ("--longest-side", longest_side)):
        if not own and value is not None:
            raise ValueError(f"{option}: of a folder, and {config} is none (leave it out)")
