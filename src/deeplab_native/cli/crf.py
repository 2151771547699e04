"""`deeplab-native crf`: the dense CRF on scores that a user already has, one image or folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _crf_volume, options
from ._ray import RayRefineOptions, report_result
from .option_groups import CRFOptions, RunOptions, ScoreOptions, expanded

if TYPE_CHECKING:
    from ..jobs._refine_image import Outputs, Settings

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native crf photo.jpg logits.npy[/]  writes photo_crf.png and photo_crf_overlay.png

[cyan]deeplab-native crf photo.jpg out.npz --key probs --w1 10 --sigma-alpha 80 --sigma-beta 13[/]

[cyan]deeplab-native crf photo.jpg scores_41x41.npy --layout chw --resize -o refined.png[/]

[cyan]deeplab-native crf photo.jpg mask.png --confidence 0.7[/]  a mask instead of scores

[cyan]deeplab-native crf scan.nii.gz scores.npy --window -160 240 -o labels.nii.gz[/]  a CT scan

[cyan]deeplab-native crf photos/ scores/ -o labels/[/]  all pairs of a name, and resumes

[cyan]deeplab-native crf shards/ shards/ -o out/ --ray auto[/]  tar shards that hold both"""

_IMAGE = "The photograph, any picture that Pillow reads; a volume, .nii or .nii.gz; or a folder."
_ARRAY = (
    "Scores (labels, H, W) or (H, W, labels), floating point, .npy, .npz or .pt; or labels (H, W): "
    "integers, a mask or a label PNG, 255 = unsure. Of a volume (labels, X, Y, Z), or .nii.gz. Or "
    "a folder of them."
)
_CONFIDENCE = "Of masks and label maps: the probability that a pixel's label is right."
_OUTPUT = (
    "Label PNG; of a volume NIfTI. Default: IMAGE_crf.png, or .nii.gz, here. Of folders: the "
    "folder for them."
)
_WINDOW = (
    "Of a volume, the values taken for 0 and 255; sigma-beta is in this scale, sigma-alpha and "
    "sigma-gamma in mm. Default: the 0.5th and 99.5th percentile of its voxels."
)
_OVERLAY = typer.Option(
    "--overlay/--no-overlay",
    help="Also write the labels over the photograph. Default: for one image yes, for folders no.",
    show_default=False,
)
_LATTICE = "standard, or bridged: closer to the sums over all pairs of pixels, and slower."
_Q = "Also write Q, (labels, H, W) float32. Of folders: the folder for them."


@expanded
def run(
    images: Annotated[str, typer.Argument(metavar="IMAGE", help=_IMAGE)],
    given: Annotated[str, typer.Argument(metavar="SCORES", help=_ARRAY)],
    results: Annotated[
        str | None, typer.Option("-o", "--output", metavar="PATH", help=_OUTPUT)
    ] = None,
    overlay: Annotated[bool | None, _OVERLAY] = None,
    save_probabilities: Annotated[Path | None, typer.Option(metavar="FILE.npz", help=_Q)] = None,
    palette: options.Palette = None,
    confidence: Annotated[float, typer.Option(help=_CONFIDENCE)] = 0.7,
    exif: options.Exif = True,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help=_WINDOW, show_default=False),
    ] = None,
    lattice: Annotated[str, typer.Option(help=_LATTICE, rich_help_panel=options.CRF)] = "standard",
    *,
    reading: ScoreOptions,
    crf: CRFOptions,
    running: RunOptions,
    cluster: RayRefineOptions,
) -> None:
    """Refine the scores of any segmentation network with the fully connected CRF."""
    from ..jobs._refine_image import Outputs, Settings

    cluster.check_left_out()
    if cluster.ray is not None:
        left_out = {
            "--overlay": bool(overlay),
            "--save-probabilities": save_probabilities is not None,
            "--window": window is not None,
        }
        _check_left_out(left_out, "one machine", "run on several")
        chosen = replace(crf.settings(), lattice=lattice)
        settings = Settings(chosen, reading.format(), palette or "voc", confidence, exif)
        _on_ray(images, given, results, settings, running, cluster)
        return
    image, scores = Path(images), Path(given)
    output = None if results is None else Path(results)
    if _crf_volume.is_asked_for(image, scores):
        of_pictures = {"--overlay": overlay, "--palette": palette, "--no-exif": exif is False}
        _check_left_out({n: bool(value) for n, value in of_pictures.items()}, "pictures", "volume")
        _check_left_out(_of_folders(running), "folders", "volume")
        how = window, confidence, lattice, reading, crf, running
        _crf_volume.run(image, scores, output, save_probabilities, *how)
        return
    _check_left_out({"--window": window is not None}, "volumes", "picture")
    chosen = replace(crf.settings(), lattice=lattice)
    settings = Settings(chosen, reading.format(), palette or "voc", confidence, exif)
    if image.is_dir() and scores.is_dir():
        if output is None:
            raise ValueError("--output: expected a folder for the results (give --output DIR)")
        _folders(image, scores, output, settings, bool(overlay), save_probabilities, running)
        return
    for one, other in ((image, scores), (scores, image)):
        if one.is_dir():
            raise IsADirectoryError(
                f"{one} is a folder, {other} is not (give a picture and its scores, or two folders)"
            )
    _check_left_out(_of_folders(running), "folders", "image")
    output = output or Path(f"{image.stem}_crf.png")
    options.check_suffix("--output", output, ".png")
    if save_probabilities is not None:
        options.check_suffix("--save-probabilities", save_probabilities, ".npz")
    over = output.with_name(f"{output.stem}_overlay.png")
    outputs = Outputs(output, over if overlay is None or overlay else None, save_probabilities)
    options.check_outputs(outputs.paths(), inputs=[image, scores])
    _one_image(image, scores, outputs, settings, running)


def _of_folders(running: RunOptions) -> dict[str, bool]:
    return {"--workers": bool(running.workers), "--overwrite": running.overwrite}


def _check_left_out(given: Mapping[str, bool], what_for: str, this: str) -> None:
    for option, is_given in given.items():
        if is_given:
            raise ValueError(f"{option} is for {what_for}, this is one {this} (leave it out)")


def _folders(
    images: Path,
    scores: Path,
    output: Path,
    settings: Settings,
    overlay: bool,
    probabilities: Path | None,
    running: RunOptions,
) -> None:
    from .. import jobs
    from . import console, report

    with report.bar("are done") as progress:
        done = jobs.refine(
            images, scores, output,
            crf=settings.crf, scores_format=settings.scores, palette=settings.palette,
            confidence=settings.confidence, exif=settings.exif,
            overlay=overlay, probabilities=probabilities, progress=progress,
            **running.arguments(),
        )  # fmt: skip
    facts = console.facts(
        ("images", f"{done.refined} refined, {done.skipped} finished before"),
        ("failed", str(len(done.failed))),
        *([("scores", report.kinds(done.kinds, settings.scores.kind))] if done.kinds else []),
        ("CRF", report.describe_crf(settings.crf)),
        ("time", report.images_and_rate(done.refined, done.seconds, done.workers)),
        ("changed", report.part(done.changed, done.pixels)),
        ("written", ", ".join(map(str, done.folders))),
    )
    console.result(running.json, {**asdict(done), **settings.as_record()}, facts)
    report.print_notes(done.notes)
    if done.failed:
        report.print_failed(done.failed, done.refined + done.skipped + len(done.failed), "failed")
        raise typer.Exit(1)


def _on_ray(
    images: str,
    scores: str,
    output: str | None,
    settings: Settings,
    running: RunOptions,
    cluster: RayRefineOptions,
) -> None:
    from .. import jobs
    from . import report

    if output is None:
        raise ValueError("--output: expected a folder for the results (give --output DIR)")
    with report.bar("are done") as progress:
        done = jobs.ray.refine(
            images, scores, output,
            crf=settings.crf, scores_format=settings.scores, palette=settings.palette,
            confidence=settings.confidence, exif=settings.exif, progress=progress,
            **cluster.arguments(running),
        )  # fmt: skip
    report_result(done, running.json)


def _one_image(
    image: Path, scores: Path, outputs: Outputs, settings: Settings, running: RunOptions
) -> None:
    from ..jobs._refine_image import load, refine, write
    from ..jobs.settings import check_device
    from . import console, report

    check_device(running.device)
    threads = options.use_threads(running.threads)
    loaded = load(image, scores, settings)
    with console.status(f"Dense CRF, {settings.crf.iterations} iterations, {threads} threads"):
        wanted = outputs.probabilities is not None
        refined = refine(loaded, settings, running.device, probabilities=wanted)
    with console.status("Writing"):
        write(outputs, loaded, refined, settings)
    height, width = refined.after.shape
    given = loaded.scores
    size = given.values.shape[-2:]
    scaled = "" if size == (height, width) else f", scaled from {size[1]} x {size[0]}"
    shares = {"before": report.shares_of(refined.before), "after": report.shares_of(refined.after)}
    values = {
        "labels": len(given.labels), "kind": given.kind, "recognised": not given.said,
        "scores": given.what, "notes": loaded.notes, "seconds": refined.seconds,
        "crf_scale": refined.scale, "changed": refined.changed, "shares": shares,
        "written": outputs.paths(),
    }  # fmt: skip
    facts = console.facts(
        ("image", f"{width} x {height}"),
        ("scores", f"{len(given.labels)} labels, {given.what}{scaled}"),
        ("CRF", report.describe_crf(settings.crf, refined.scale)),
        ("time", f"{refined.seconds * 1e3:.0f} ms on {threads} threads"),
        ("changed", report.part(refined.changed, refined.after.size)),
        ("written", ", ".join(map(str, outputs.paths()))),
    )
    names = report.voc_names(int(given.labels[-1]) + 1)
    console.result(
        running.json,
        {**settings.as_record(), "height": height, "width": width, "threads": threads, **values},
        facts,
        report.label_table(shares, names),
    )
    report.print_notes({note: [image.name] for note in loaded.notes})
