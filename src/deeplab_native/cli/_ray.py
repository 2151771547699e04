"""`segment` and `crf` on a cluster: their options, and what they print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .option_groups import RunOptions

if TYPE_CHECKING:
    from ..jobs.ray import RayResult

RAY = "Many machines"
# What may follow --ray; anything else is the next argument
_ADDRESS = re.compile(r"local|auto|ray://.+|[\w.-]+:\d+")
_HELP = (
    "On a cluster of Ray: auto, ray://HOST:10001 or HOST:6379; without ADDRESS on this machine "
    "alone. Images are also tar shards and Parquet files, paths also URLs (s3://...)."
)


@dataclass(frozen=True)
class RayOptions:
    """Arguments of `jobs.ray.segment`."""

    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="[ADDRESS]", help=_HELP, rich_help_panel=RAY),
    ] = None
    masks: Annotated[
        str,
        typer.Option(help="How they are written: png, tar or parquet.", rich_help_panel=RAY),
    ] = "png"
    shard_images: Annotated[
        int,
        typer.Option(
            min=1, help="Of a folder, pictures that are finished together.", rich_help_panel=RAY
        ),
    ] = 256
    image_column: Annotated[
        str | None,
        typer.Option(
            help="Of Parquet; of tar shards the member's suffix, as jpg. Default: image, or what "
            "is a picture.",
            rich_help_panel=RAY,
        ),
    ] = None
    key_column: Annotated[
        str, typer.Option(help="Of Parquet, the images' names.", rich_help_panel=RAY)
    ] = "key"
    on_error: Annotated[
        str,
        typer.Option(
            help="skip: what cannot be used is named and counted; stop: it ends the run.",
            rich_help_panel=RAY,
        ),
    ] = "skip"
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Of each worker, also 0.5; 0: CPUs. Default: 1 where Ray has some.",
            rich_help_panel=RAY,
        ),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images of a size that are computed together. Default: 16 on a GPU, else 1.",
            rich_help_panel=RAY,
        ),
    ] = None

    def check_left_out(self) -> None:
        """ValueError where one is given without --ray."""
        default = type(self)()
        for name in (one.name for one in fields(self)):
            if self.ray is None and getattr(self, name) != getattr(default, name):
                raise ValueError(f"--{name.replace('_', '-')} is for --ray (give it, too)")

    def arguments(self, running: RunOptions) -> dict[str, Any]:
        """Of a function of `deeplab_native.jobs.ray`."""
        if running.device != "cpu":
            raise ValueError(
                f"--device {running.device} is for one machine, with --ray workers have the GPUs "
                "that Ray gives them (give --gpus)"
            )
        if running.workers == 0:
            raise ValueError("--workers 0: expected at least 1 with --ray")
        given = asdict(self)
        given["address"] = given.pop("ray")
        how = running.arguments()
        del how["device"]
        return given | how


@dataclass(frozen=True)
class RayRefineOptions(RayOptions):
    """Arguments of `jobs.ray.refine`."""

    scores_column: Annotated[
        str | None,
        typer.Option(
            help="As --image-column. Default: scores, or what is an array.", rich_help_panel=RAY
        ),
    ] = None


def with_address(arguments: Sequence[str]) -> list[str]:
    """`--ray` as an option with a value: that of this machine, where no address follows."""
    found = []
    for i, argument in enumerate(arguments):
        following = arguments[i + 1] if i + 1 < len(arguments) else ""
        bare = argument == "--ray" and not _ADDRESS.fullmatch(following)
        found.append("--ray=local" if bare else argument)
    return found


def report_result(done: RayResult, as_json: bool) -> None:
    """Prints it; status 1 where something failed."""
    from . import console, report

    changed = [("changed", report.part(done.changed, done.pixels))] * bool(done.changed)
    each = f"{done.gpus:g} GPUs" if done.gpus else f"{done.threads} CPU threads"
    facts = console.facts(
        ("images", f"{done.images} done, {done.skipped} finished before"),
        ("failed", str(done.failures)),
        (
            "time",
            f"{done.seconds:.1f} s, {done.rate:.2f} images/s on {done.workers} workers of {each}",
        ),
        *([("restarts", f"{done.restarts} of workers that died")] if done.restarts else []),
        *changed,
        ("written", f"{done.output} (manifest/ names every image)"),
    )
    console.result(as_json, asdict(done) | {"rate": done.rate}, facts)
    if done.failures:
        report.print_failed(done.failed, done.images + done.skipped + done.failures, "failed")
        raise typer.Exit(1)
