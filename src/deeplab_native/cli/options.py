"""Options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from .._files import check_output

if TYPE_CHECKING:
    from ..crf import CRFParams
    from ..jobs import CRFSettings, ScoreFormat

_CRF, _SCORES, _RUN = "CRF parameters", "Scores", "Run"

Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", rich_help_panel=_RUN)]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of each process. Default: the cores, shared among the processes.",
        rich_help_panel=_RUN,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON, for machines.", rich_help_panel=_RUN),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        help="Go on where an earlier run into this folder stopped.",
        rich_help_panel=_RUN,
    ),
]
Iterations = Annotated[
    int, typer.Option(min=0, help="Mean field iterations.", rich_help_panel=_CRF)
]
Normalization = Annotated[
    str,
    typer.Option(
        help="symmetric, before, after (the authors' tool) or none.", rich_help_panel=_CRF
    ),
]
Palette = Annotated[
    str | None,
    typer.Option(help="Colours of the labels: voc or cityscapes. Default: the weights', or voc."),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Network, one of those in [cyan]deeplab-native info[/]. Default: the one that the "
        "weights belong to.",
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        "--num-classes",
        "--classes",
        min=1,
        help="Labels that the weights were trained for. Default: those of the weights, or 21.",
    ),
]


@dataclass(frozen=True)
class CRFOptions:
    """The CRF of a command."""

    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Published parameters, listed by [cyan]deeplab-native info[/]. "
            "Default: those of the weights, or the first one there.",
            rich_help_panel=_CRF,
        ),
    ] = None
    w1: Annotated[
        float | None, typer.Option(help="Weight of the appearance kernel.", rich_help_panel=_CRF)
    ] = None
    sigma_alpha: Annotated[
        float | None, typer.Option(help="Its standard deviation in pixels.", rich_help_panel=_CRF)
    ] = None
    sigma_beta: Annotated[
        float | None,
        typer.Option(help="Its standard deviation in colour, 0..255.", rich_help_panel=_CRF),
    ] = None
    w2: Annotated[
        float | None, typer.Option(help="Weight of the smoothness kernel.", rich_help_panel=_CRF)
    ] = None
    sigma_gamma: Annotated[
        float | None, typer.Option(help="Its standard deviation in pixels.", rich_help_panel=_CRF)
    ] = None
    iterations: Iterations = 10
    normalization: Normalization = "symmetric"
    scale: Annotated[
        float,
        typer.Option(
            help="For large images: the CRF at this fraction of the resolution, but for its last "
            "iteration. 1 is the CRF itself.",
            rich_help_panel=_CRF,
        ),
    ] = 1.0

    def settings(self, found: CRFParams | None = None) -> CRFSettings:
        """With every value that was given in place of the preset's, or of those `found`.

        Raises ValueError for an unknown preset, or what the CRF cannot take.
        """
        from ..crf import PRESETS, CRFParams
        from ..jobs import CRFSettings

        base = CRFParams.preset(self.preset or next(iter(PRESETS)))
        if self.preset is None and found is not None:
            base = found
        names = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma")
        given = {name: getattr(self, name) for name in names}
        params = replace(base, **{name: v for name, v in given.items() if v is not None})
        return CRFSettings(params, self.iterations, self.normalization, self.scale)


@dataclass(frozen=True)
class ScoreOptions:
    """How score files are read."""

    kind: Annotated[
        str,
        typer.Option(
            help="logits, probabilities or auto: probabilities where all are in 0..1 and sum to 1.",
            rich_help_panel=_SCORES,
        ),
    ] = "auto"
    layout: Annotated[str, typer.Option(help="chw, hwc or auto.", rich_help_panel=_SCORES)] = "auto"
    key: Annotated[
        str | None,
        typer.Option(help="Array of the .npz. Default: the only one.", rich_help_panel=_SCORES),
    ] = None
    resize: Annotated[
        bool,
        typer.Option(
            "--resize",
            help="Scale scores of another size to the image's.",
            rich_help_panel=_SCORES,
        ),
    ] = False

    def format(self) -> ScoreFormat:
        """Raises ValueError for a value that is unknown."""
        from ..jobs import ScoreFormat

        return ScoreFormat(self.kind, self.layout, self.key, self.resize)

    def given(self) -> list[str]:
        """The options that say something."""
        default = ScoreOptions()
        names = [f.name for f in fields(self)]
        return [f"--{name}" for name in names if getattr(self, name) != getattr(default, name)]


@dataclass(frozen=True)
class RunOptions:
    """How a job over many images runs."""

    device: Device = "cpu"
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes, each with an image in memory; 0: none, all is done in this one. "
            "Default: one for each core, on a GPU one.",
            rich_help_panel=_RUN,
        ),
    ] = None
    threads: Threads = None
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0.001,
            help="For all images that are worked on at the same time. Default: what is free.",
            rich_help_panel=_RUN,
        ),
    ] = None
    resume: Resume = True
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Begin anew in the output folder.", rich_help_panel=_RUN),
    ] = False
    json: Json = False

    def arguments(self) -> dict[str, Any]:
        """Of a function of `deeplab_native.jobs`."""
        return {
            "device": self.device,
            "workers": self.workers,
            "threads": self.threads,
            "memory": None if self.memory is None else int(self.memory * 1e9),
            "resume": self.resume,
            "overwrite": self.overwrite,
        }


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of the classes above are replaced by their fields.

    Typer sees the fields as options; the command gets the objects.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if not is_dataclass(hint):
            parameters.append(parameter.replace(annotation=hint))
            continue
        assert isinstance(hint, type)
        groups[name] = hint
        of_fields = get_type_hints(hint, include_extras=True)
        for one in fields(hint):
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(
                inspect.Parameter(
                    one.name, kind, default=one.default, annotation=of_fields[one.name]
                )
            )

    @wraps(command)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{one.name: values.pop(one.name) for one in fields(group)})
        command(**values)

    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    call.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in named}
    return call


def use_threads(threads: int | None) -> int:
    """Sets torch's thread count when one was asked for; returns the count in use.

    Raises ValueError where that is more than the cores can have any use for.
    """
    import torch

    from ..jobs._engine import check_count

    if threads is not None:
        check_count("threads", threads)
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def one_of(option: str, *given: Any) -> Any:
    """The value of an option that has another way to say it, too; ValueError for both or none."""
    values = [value for value in given if value is not None]
    if len(values) != 1:
        raise ValueError(f"{option}: expected it once, got it {len(values)} times (give {option})")
    return values[0]


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raises ValueError or OSError before the work starts, where a file could not be written.

    An output that is an input, or that is named twice, would destroy what the user has.
    """
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        target = check_output(path)
        if target in taken:
            raise ValueError(f"{path} is already an input or another output (give another name)")
        taken.add(target)


def check_suffix(option: str, path: Path, suffix: str) -> None:
    """Raises ValueError where the format would not be what the name says."""
    if path.suffix.lower() != suffix:
        raise ValueError(f"{option} {path}: this file is written as {suffix} (end it in {suffix})")
