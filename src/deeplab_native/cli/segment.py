"""`deeplab-native segment`: network, upsampling, softmax, CRF, from photographs to label PNGs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options, weights_words
from ._ray import RayOptions, report_result
from .names import MODELS
from .option_groups import CRFOptions, RunOptions, expanded

if TYPE_CHECKING:
    from ..jobs import Progress, SegmentResult

EXAMPLES = f"""[bold]Examples[/]

[cyan]deeplab-native segment photo.jpg[/]  finds cats, cows, dogs, horses, persons and sheep

[cyan]deeplab-native segment photos/ -o labels/ --weights voc.safetensors[/]

[cyan]deeplab-native segment photo.jpg --model deeplab_vgg16_aspp_l --weights vgg.pth --no-crf[/]

[cyan]deeplab-native segment street.png --weights city.safetensors --tile 513[/]

[cyan]deeplab-native segment 's3://bucket/{{000..127}}.tar' -o s3://bucket/masks --ray auto[/]

[cyan]deeplab-native segment photos/ -o labels/ --save-scores scores/[/]  for crf-search, evaluate

[bold]Output[/]

DIR/NAME.png, the class of every pixel as an 8-bit palette PNG; DIR/overlays/NAME.png; \
DIR/classes.json, the names of the classes by index. With --ray DIR/masks, DIR/manifest.

[bold]Networks[/]  ([cyan]deeplab-native info[/] describes them)

{", ".join(MODELS)}"""

_WEIGHTS = (
    "Its weights: any file that [cyan]convert-weights[/] reads. Default: those that come with the "
    "package; with --model random ones, whose labels are meaningless."
)
_MSC = "Run the network at scales 1, 0.75 and 0.5, fused (the paper's MSC)."
_TILE = (
    "For large images: the network in overlapping tiles of this size, 8 m + 1, e.g. 513. Default: "
    "the whole image at once."
)
_OVERLAP = "Of neighbouring tiles, a multiple of 8. Default: a quarter of the tile."
_SIDE = (
    "Larger photographs are reduced to this for the network; the labels and the CRF are at full "
    "size. Default: 321 with the package's weights, which were trained so, unless there are tiles; "
    "with others none."
)
_OVERLAY = "Also write the labels over the photograph."
_SCORES = (
    "Also write the network's scores, DIR/NAME.npy, as [cyan]crf[/], [cyan]evaluate --scores[/] "
    "and [cyan]crf-search[/] take them: at the resolution of the score map."
)
_FULL_SCORES = "Write them at that of the photograph: exact, and about 60 times as large."


@expanded
def run(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Photographs, any that Pillow reads, or folders of them."
        ),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")
    ] = "deeplab-native-segment",
    model: options.Model = None,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help=_WEIGHTS)] = None,
    num_classes: options.NumClasses = None,
    multi_scale: Annotated[bool, typer.Option("--multi-scale", help=_MSC)] = False,
    tile: Annotated[int | None, typer.Option(metavar="PIXELS", help=_TILE)] = None,
    overlap: Annotated[int | None, typer.Option(metavar="PIXELS", help=_OVERLAP)] = None,
    longest_side: Annotated[int | None, typer.Option(metavar="PIXELS", min=1, help=_SIDE)] = None,
    use_crf: Annotated[bool, typer.Option("--crf/--no-crf", help="Refine the labels.")] = True,
    palette: options.Palette = None,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help=_OVERLAY)] = True,
    save_scores: Annotated[Path | None, typer.Option(metavar="DIR", help=_SCORES)] = None,
    full_scores: Annotated[bool, typer.Option("--full-scores", help=_FULL_SCORES)] = False,
    exif: options.Exif = True,
    *,
    crf: CRFOptions,
    running: RunOptions,
    cluster: RayOptions,
) -> None:
    """Segment photographs with DeepLab v2."""
    from .. import jobs
    from . import console, report

    crf.settings()  # a wrong value is an error before the net is built
    cluster.check_left_out()
    asked: dict[str, Any] = {
        "model": model, "weights": weights, "num_classes": num_classes, "multi_scale": multi_scale,
        "tile": tile, "overlap": overlap, "longest_side": longest_side,
        "crf": crf.settings if use_crf else None, "palette": palette, "exif": exif,
    }  # fmt: skip
    if cluster.ray is not None:
        if save_scores is not None:
            raise ValueError("--save-scores is for one machine (leave it out with --ray)")
        with weights_words.in_options(), report.bar("are done") as progress:
            many = jobs.ray.segment(
                images, output, **asked, progress=progress, **cluster.arguments(running)
            )
        report_result(many, running.json)
        return
    bar = report.bar("are done", None if running.json else _line)
    with weights_words.in_options(), bar as progress:
        done = jobs.segment(
            images, output, **asked, overlay=overlay, save_scores=save_scores,
            full_scores=full_scores, progress=progress, **running.arguments(),
        )  # fmt: skip
    origin = str(weights) if weights is not None else "weights of the package"
    if weights is None and model is not None:
        console.err.print(
            f"WARNING: no --weights for {model}: they are random and the LABELS ARE MEANINGLESS; "
            "only the flow and the time are real.",
            style="bold red",
        )
        origin = "RANDOM weights: the labels mean nothing"
    _print(done, origin, running.json)
    notes: dict[str, list[str]] = {}
    for name, one in done.found.items():
        for note in one["notes"]:
            notes.setdefault(note, []).append(name)
    report.print_notes(notes)
    if done.failed:
        total = done.segmented + done.skipped + len(done.failed)
        console.err.print(f"{len(done.failed)} of {total} images failed")
        raise typer.Exit(1)


def _line(progress: Progress) -> None:
    """Of each of several photographs."""
    from . import console

    found = progress.result
    if progress.total > 1 and found is not None:
        console.out.print(
            f"{progress.image}  {found['width']} x {found['height']}  {found['seconds']:.2f} s  "
            f"{found['what']}"
        )


def _print(done: SegmentResult, origin: str, as_json: bool) -> None:
    from . import console, report

    network, settings = done.network, done.settings
    scales = ", ".join(map(str, network.scales))
    at_scales = "" if network.scales == (1.0,) else f", at scales {scales}"
    scale = None if done.single is None else done.single["crf_scale"]
    facts = [
        ("network", f"{network.name}, {origin}{at_scales}"),
        *([("tiles", f"of {settings.tile} pixels")] if settings.tile else []),
        *([("seen at", f"{settings.longest_side} pixels")] if settings.longest_side else []),
        ("CRF", report.describe_crf(settings.crf, scale)),
    ]
    tables = []
    written = ", ".join(map(str, done.written))
    if done.single is None:
        before = f", {done.skipped} finished before" if done.skipped else ""
        facts.append(("written", f"{written}, {done.segmented} images{before}"))
    else:
        one = done.single
        facts.insert(0, ("image", f"{one['width']} x {one['height']}"))
        facts.append(("time", f"{one['seconds']:.2f} s on {done.threads} threads"))
        facts.append(("written", written))
        shares = {"share": {int(i): share for i, share in one["shares"].items()}}
        tables.append(report.label_table(shares, done.class_names))
    values: dict[str, Any] = {
        "network": network.name, "weights": origin, "scales": network.scales,
        "crf": settings.crf and settings.crf.as_record(), "classes": done.class_names,
        "segmented": done.segmented, "skipped": done.skipped, "failed": done.failed,
        "images": done.found, "written": done.written, "seconds": done.seconds,
    }  # fmt: skip
    console.result(as_json, values, console.facts(*facts), *tables)
