"""`deeplab-native train FOLDER`: from photographs and labels to a net, its figures and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..data.own_data import OwnData
    from ..jobs import EvaluateResult
    from ..training import Outcome
    from ..training.config import Config

EXAMPLES = "examples"
EVALUATION = "evaluation"


def run_folder(
    folder: Path,
    output: Path,
    *,
    minutes: float | None,
    longest_side: int | None,
    overrides: Sequence[str],
    resume: bool,
    write_report: bool,
    as_json: bool,
) -> None:
    """Trains on a folder of photographs, or goes on with it."""
    from ..training import load_config
    from ..training.folder_run import plan_folder
    from ..training.folders import CONFIG, check_folder
    from ..training.run import train
    from . import console, repeat

    _check_processes(output)
    check_folder(output, resume=resume)
    data: OwnData | None = None
    if (output / CONFIG).is_file():
        config = load_config(output / CONFIG, overrides)
    else:
        with console.status("Reading photographs and labels, measuring an update"):
            data, plan = plan_folder(
                folder, output, minutes=minutes, longest_side=longest_side, overrides=overrides,
                resume=resume, say=lambda text: console.err.print(text, soft_wrap=True),
            )  # fmt: skip
        config = plan.config
    command = repeat.command()
    outcome = train(config, output, resume=True, report=write_report, command=command)
    stop_if_interrupted(outcome, config)
    _finish(output, outcome, config, data, longest_side, write_report, as_json)


def stop_if_interrupted(outcome: Outcome, config: Config) -> None:
    """Ends the command with the signal's status, after saying how to go on."""
    from . import console

    if outcome.interrupted_by:
        console.err.print(
            f"interrupted after {outcome.iteration} of {config.iterations} iterations: "
            "the same command with --resume goes on from there",
            soft_wrap=True,
        )
        raise typer.Exit(128 + outcome.interrupted_by)


def _check_processes(output: Path) -> None:
    from torch import distributed

    if distributed.is_torchelastic_launched():
        raise ValueError(
            "CONFIG: a folder is for one process; expected a configuration under torchrun, such as "
            f"{output}/config.yaml of a run without it"
        )


def _finish(
    output: Path,
    outcome: Outcome,
    config: Config,
    data: OwnData | None,
    longest_side: int | None,
    write_report: bool,
    as_json: bool,
) -> None:
    """Held-out figures, pictures, and what comes next."""
    from .. import jobs
    from ..data import open_dataset
    from ..training.examples import write_examples
    from ..weights import load_model
    from . import console, report

    assert outcome.weights is not None
    assert config.data.root is not None
    held_out = open_dataset("folder", config.data.root, config.data.val or "val")
    device = "cuda" if config.accelerator == "cuda" else "cpu"
    weights = outcome.weights

    def evaluate(*, overwrite: bool) -> EvaluateResult:
        with report.bar("are counted") as progress:
            return jobs.evaluate(
                held_out, output / EVALUATION, weights=weights, trimap="none",
                device=device, threads=config.threads, overwrite=overwrite, progress=progress,
                report=write_report, workers=0 if len(held_out) < _FEW else None,
            )  # fmt: skip

    try:
        found = evaluate(overwrite=False)
    except ValueError:  # of other weights, before these
        found = evaluate(overwrite=True)
    net = load_model(outcome.weights).to(device)
    pictures = write_examples(net, held_out, output / EXAMPLES)
    commands = _commands(output, outcome.weights, _reduced_to(config, longest_side))
    values = {
        "iterations": outcome.iteration,
        "weights": outcome.weights,
        "found": None if data is None else data.notes,
        "classes": held_out.classes,
        "held_out": [entry.name for entry in held_out.entries],
        "figures": found.report.record()["variants"],
        "pictures": pictures,
        "failures": list(outcome.failures.values()),
        "next": commands,
    }
    hints = [*_hints(found)]
    facts = console.facts(
        ("held out", f"{len(held_out)} photographs, {output / EVALUATION}"),
        ("pictures", f"{output / EXAMPLES}: photograph, labels, network, with the CRF"),
        ("weights", str(outcome.weights)),
    )
    console.result(as_json, values, *_tables(found), facts)
    for hint in hints:
        console.err.print(hint, soft_wrap=True)
    if not as_json:
        console.out.print("next", style="bold")
        for command in commands:
            console.out.print(f"  {command}", soft_wrap=True)


_FEW = 8  # images that are counted before processes have started


def _tables(found: EvaluateResult) -> list[Any]:
    from ..jobs._evaluate_report import percent
    from . import console

    names = ("network", "with the CRF")
    table = console.table("IoU of what was held out, %", *names[: len(found.report.variants)])
    variants = list(found.report.variants.values())
    for i, name in enumerate(found.report.classes):
        table.add_row(name, *(percent(float(v.scores.class_iou[i])) for v in variants))
    table.add_row("mean", *(percent(v.scores.mean_iou) for v in variants), style="bold")
    return [table]


def _hints(found: EvaluateResult) -> Iterator[str]:
    """What the figures say that a reader may not see."""
    before, *after = (v.scores for v in found.report.variants.values())
    unseen = [
        n for n, iou in zip(found.report.classes, before.class_iou, strict=True) if iou != iou
    ]
    if unseen:
        yield f"in no held-out photograph, and so without a figure: {', '.join(unseen)}"
    if after and after[0].mean_iou < before.mean_iou:
        yield (
            "the CRF does not help here: leave it out with segment --no-crf, or find parameters "
            "that suit these scores with segment --save-scores and crf-search"
        )


def _reduced_to(config: Config, longest_side: int | None) -> int | None:
    """The side that photographs were reduced to; None where none was."""
    from ..training.own_data import LONGEST_SIDE

    assert config.data.root is not None
    images = Path(config.data.root) / "images"
    if all(path.is_symlink() for path in images.iterdir()):
        return None
    return LONGEST_SIDE if longest_side is None else longest_side


def _commands(output: Path, weights: Path, side: int | None) -> list[str]:
    net = shlex.quote(str(weights))
    seen = f" --longest-side {side}" if side else ""
    onnx = shlex.quote(str(output / "net.onnx"))
    return [
        f"deeplab-native segment PHOTOS/ -o labels/ --weights {net}{seen}",
        f"deeplab-native export-onnx --weights {net} -o {onnx}",
    ]
