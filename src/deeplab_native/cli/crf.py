"""`deeplab-native crf`: the dense CRF on scores that a user already has, one image or folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from .crf_image import Outputs, Settings

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native crf photo.jpg logits.npy[/]  writes photo_crf.png and photo_crf_overlay.png

[cyan]deeplab-native crf photo.jpg out.npz --key probs --w1 10 --sigma-alpha 80 --sigma-beta 13[/]

[cyan]deeplab-native crf photo.jpg scores_41x41.npy --layout chw --resize -o refined.png[/]

[cyan]deeplab-native crf photos/ scores/ --out labels/[/]  all pairs of a name, and resumes"""

_FOLDERS = "Folders"


def run(
    image: Annotated[
        Path, typer.Argument(help="The photograph, any picture that Pillow reads; or a folder.")
    ],
    scores: Annotated[
        Path,
        typer.Argument(
            help="Scores (labels, H, W) or (H, W, labels), .npy or .npz, floating point. The label "
            "axis is the one left over when H and W match the image. Or a folder of them, named "
            "like the images.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Label PNG. Default: IMAGE_crf.png, here. Of folders: the folder for them.",
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="logits, probabilities or auto: probabilities where all are in 0..1 and sum to 1."
        ),
    ] = "auto",
    layout: Annotated[str, typer.Option(help="chw, hwc or auto.")] = "auto",
    key: Annotated[
        str | None, typer.Option(help="Array of the .npz. Default: the only one.")
    ] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Scale scores of another size to the image's.")
    ] = False,
    preset: options.Preset = None,
    w1: options.W1 = None,
    sigma_alpha: options.SigmaAlpha = None,
    sigma_beta: options.SigmaBeta = None,
    w2: options.W2 = None,
    sigma_gamma: options.SigmaGamma = None,
    iterations: options.Iterations = 10,
    normalization: options.Normalization = "symmetric",
    scale: options.Scale = 1.0,
    palette: options.Palette = "voc",
    overlay: Annotated[
        bool | None,
        typer.Option(
            "--overlay/--no-overlay",
            help="Also write the labels over the photograph. Default: for one image yes, for "
            "folders no; theirs are in OUT/overlays.",
            show_default=False,
        ),
    ] = None,
    save_probabilities: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Also write Q, (labels, H, W) float32. Of folders: the folder for them.",
        ),
    ] = None,
    threads: options.Threads = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes, each with --threads threads (1) and an image in memory. "
            "Default: one for each core.",
            rich_help_panel=_FOLDERS,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Do finished images anew. Without it they are skipped.",
            rich_help_panel=_FOLDERS,
        ),
    ] = False,
) -> None:
    """Refine the scores of any segmentation network with the fully connected CRF."""
    from .crf_image import Outputs, Settings

    params = options.crf_params(
        preset,
        w1=w1,
        sigma_alpha=sigma_alpha,
        sigma_beta=sigma_beta,
        w2=w2,
        sigma_gamma=sigma_gamma,
    )
    settings = Settings(
        params, iterations, normalization, scale, kind, layout, key, resize, palette
    )
    if image.is_dir() and scores.is_dir():
        from . import crf_folder

        if out is None:
            raise ValueError("--out: expected a folder for the results, got none (give --out DIR)")
        for option, count in (("--workers", workers), ("--threads", threads)):
            options.check_count(option, count or 1)
        crf_folder.run(
            crf_folder.Folders(image, scores, out, save_probabilities),
            settings,
            overlay=bool(overlay),
            overwrite=overwrite,
            workers=workers,
            threads=threads or 1,
        )
        return

    for one, other in ((image, scores), (scores, image)):
        if one.is_dir():
            raise IsADirectoryError(
                f"{one} is a folder, {other} is not (give a picture and its scores, or two folders)"
            )
    for option, given in (("--workers", workers), ("--overwrite", overwrite)):
        if given:
            raise ValueError(f"{option} is for folders, this is one image (leave it out)")
    out = out or Path(f"{image.stem}_crf.png")
    options.check_suffix("--out", out, ".png")
    if save_probabilities is not None:
        options.check_suffix("--save-probabilities", save_probabilities, ".npz")
    drawn = options.overlay_path(out) if overlay is None or overlay else None
    outputs = Outputs(out, drawn, save_probabilities)
    options.check_outputs(outputs.paths(), inputs=[image, scores])
    _one_image(image, scores, outputs, settings, options.use_threads(threads))


def _one_image(
    image: Path, scores: Path, outputs: Outputs, settings: Settings, threads: int
) -> None:
    import numpy as np

    from . import console
    from .crf_image import load, refine, write
    from .report import label_table

    with console.status("Reading"):
        loaded = load(image, scores, settings)
    with console.status(f"Dense CRF, {settings.iterations} iterations, {threads} threads"):
        refined = refine(loaded, settings)
    with console.status("Writing"):
        write(outputs, loaded, refined, settings)
    before, after = refined.before, refined.after
    height, width = after.shape
    num_labels, *size = loaded.scores.shape
    resized = f", scaled up from {size[1]} x {size[0]}" if tuple(size) != after.shape else ""
    console.out.print(
        console.facts(
            ("image", f"{width} x {height}"),
            ("scores", f"{num_labels} labels, {loaded.kind}{resized}"),
            ("CRF", settings.describe()),
            ("time", f"{refined.seconds * 1e3:.0f} ms on {threads} threads"),
            ("changed", f"{np.mean(before != after):.2%} of the pixels"),
            ("written", ", ".join(map(str, outputs.paths()))),
        ),
        label_table(num_labels, before=before, after=after),
    )
