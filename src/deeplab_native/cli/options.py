"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._files import check_output

if TYPE_CHECKING:
    from ..crf import CRFParams

_CRF = "CRF parameters"
_THREADS_PER_CORE = 4  # more only wait for each other, and thousands cannot be started at all

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Published parameters, listed by [cyan]deeplab-native info[/]. "
        "Default: the first one there.",
        rich_help_panel=_CRF,
    ),
]
W1 = Annotated[
    float | None, typer.Option(help="Weight of the appearance kernel.", rich_help_panel=_CRF)
]
SigmaAlpha = Annotated[
    float | None, typer.Option(help="Its standard deviation in pixels.", rich_help_panel=_CRF)
]
SigmaBeta = Annotated[
    float | None,
    typer.Option(help="Its standard deviation in colour, 0..255.", rich_help_panel=_CRF),
]
W2 = Annotated[
    float | None, typer.Option(help="Weight of the smoothness kernel.", rich_help_panel=_CRF)
]
SigmaGamma = Annotated[
    float | None, typer.Option(help="Its standard deviation in pixels.", rich_help_panel=_CRF)
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
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"CPU threads, up to {_THREADS_PER_CORE} a core. Default: torch's own choice.",
    ),
]
Scale = Annotated[
    float,
    typer.Option(
        help="For large images: the CRF at this fraction of the resolution, but for its last "
        "iteration. 1 is the CRF itself.",
        rich_help_panel=_CRF,
    ),
]
Palette = Annotated[str, typer.Option(help="Colours of the labels: voc or cityscapes.")]
Overlay = Annotated[
    bool, typer.Option("--overlay/--no-overlay", help="Also write the labels over the photograph.")
]


def crf_params(preset: str | CRFParams | None, **values: float | None) -> CRFParams:
    """The preset with every value that was given in its place; raises ValueError (unknown name)."""
    from dataclasses import replace

    from ..crf import PRESETS, CRFParams

    if not isinstance(preset, CRFParams):
        preset = CRFParams.preset(next(iter(PRESETS)) if preset is None else preset)
    return replace(preset, **{name: v for name, v in values.items() if v is not None})


def describe(params: CRFParams) -> str:
    """One line, in the paper's symbols."""
    return (
        f"w1={params.w1:g} σα={params.sigma_alpha:g} σβ={params.sigma_beta:g} "
        f"w2={params.w2:g} σγ={params.sigma_gamma:g}"
    )


def describe_scale(scale: float) -> str:
    """To stand after the rest; nothing for the CRF itself."""
    return "" if scale == 1 else f", scale {scale:g}"


def use_threads(threads: int | None) -> int:
    """Sets torch's thread count when one was asked for; returns the count in use.

    Raises ValueError where that is more than the cores can have any use for.
    """
    import torch

    if threads is not None:
        check_count("--threads", threads)
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def check_count(option: str, count: int) -> None:
    """Raises ValueError for more threads or processes than the cores can have any use for."""
    cores = len(os.sched_getaffinity(0))
    if count > _THREADS_PER_CORE * cores:
        raise ValueError(
            f"{option} {count}: too many for {cores} cores "
            f"(give 1 to {_THREADS_PER_CORE * cores}, or leave it out)"
        )


def overlay_path(labels: Path) -> Path:
    return labels.with_name(f"{labels.stem}_overlay.png")


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
