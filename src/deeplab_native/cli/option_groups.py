"""Options that go together, as one object: a command that has one of them has all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from .options import CRF, RUN, Device, Iterations, Json, Normalization, Resume, Threads
from .values import scale_of

if TYPE_CHECKING:
    from ..crf import CRFParams
    from ..jobs import CRFSettings, ScoreFormat

_SCORES = "Scores"


@dataclass(frozen=True)
class CRFOptions:
    """The CRF of a command."""

    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Published parameters, listed by [cyan]deeplab-native info[/]. "
            "Default: those of the weights, or the first one there.",
            rich_help_panel=CRF,
        ),
    ] = None
    w1: Annotated[
        float | None,
        typer.Option(help="Weight of the appearance kernel.", rich_help_panel=CRF),
    ] = None
    sigma_alpha: Annotated[
        float | None,
        typer.Option(help="Its standard deviation in pixels.", rich_help_panel=CRF),
    ] = None
    sigma_beta: Annotated[
        float | None,
        typer.Option(help="Its standard deviation in colour, 0..255.", rich_help_panel=CRF),
    ] = None
    w2: Annotated[
        float | None,
        typer.Option(help="Weight of the smoothness kernel.", rich_help_panel=CRF),
    ] = None
    sigma_gamma: Annotated[
        float | None,
        typer.Option(help="Its standard deviation in pixels.", rich_help_panel=CRF),
    ] = None
    iterations: Iterations = 10
    normalization: Normalization = "symmetric"
    scale: Annotated[
        str,
        typer.Option(
            help="For large images: the CRF at this fraction of the resolution, but for its last "
            "iteration. 1 is the CRF itself; auto is 1 up to 2 million pixels (on a GPU 33 "
            "million, in evaluate always), and less for more.",
            rich_help_panel=CRF,
        ),
    ] = "auto"

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
        return CRFSettings(params, self.iterations, self.normalization, scale_of(self.scale))


@dataclass(frozen=True)
class ScoreOptions:
    """How score files are read."""

    kind: Annotated[
        str,
        typer.Option(
            help="logits, probabilities, sigmoid (each label by itself), energies (-log p), "
            "labels, or auto: recognised, or asked for where that is not safe.",
            rich_help_panel=_SCORES,
        ),
    ] = "auto"
    layout: Annotated[
        str,
        typer.Option(
            help="Where the labels are: chw (first), hwc (last), or auto: the axis left over.",
            rich_help_panel=_SCORES,
        ),
    ] = "auto"
    key: Annotated[
        str | None,
        typer.Option(
            help="Array of the .npz or .pt. Default: the only one.", rich_help_panel=_SCORES
        ),
    ] = None
    resize: Annotated[
        bool,
        typer.Option(
            "--resize",
            help="Scale scores of any size to the image's, and masks by the nearest pixel. Scores "
            "of its shape at a lower resolution are in any case.",
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
            rich_help_panel=RUN,
        ),
    ] = None
    threads: Threads = None
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0.001,
            help="For all images that are worked on at the same time. Default: what is free.",
            rich_help_panel=RUN,
        ),
    ] = None
    resume: Resume = True
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Begin anew in the output folder.", rich_help_panel=RUN),
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
