"""`deeplab-native crf`: the dense CRF on scores that a user already has."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    import numpy as np
    import torch

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native crf photo.jpg logits.npy[/]  writes photo_crf.png and photo_crf_overlay.png

[cyan]deeplab-native crf photo.jpg out.npz --key probs --w1 10 --sigma-alpha 80 --sigma-beta 13[/]

[cyan]deeplab-native crf photo.jpg scores_41x41.npy --layout chw --resize -o refined.png[/]"""

_MOST_LABELS = 256  # of a palette PNG


def run(
    image: Annotated[Path, typer.Argument(help="The photograph: any picture that Pillow reads.")],
    scores: Annotated[
        Path,
        typer.Argument(
            help="Scores (labels, H, W) or (H, W, labels), .npy or .npz, floating point. The label "
            "axis is the one left over when H and W match the image.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Label PNG. Default: IMAGE_crf.png, here.")
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
    palette: options.Palette = "voc",
    overlay: options.Overlay = True,
    save_probabilities: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Also write Q, (labels, H, W) float32."),
    ] = None,
    threads: options.Threads = None,
) -> None:
    """Refine the scores of any segmentation network with the fully connected CRF."""
    import numpy as np
    import torch

    from .. import dense_crf, viz
    from .._files import atomic_path
    from . import console
    from .inputs import kind_of, read_image, read_scores, to_chw
    from .report import label_table

    out = out or Path(f"{image.stem}_crf.png")
    options.check_suffix("--out", out, ".png")
    outputs = [out] + [options.overlay_path(out)] * overlay
    if save_probabilities is not None:
        options.check_suffix("--save-probabilities", save_probabilities, ".npz")
        outputs.append(save_probabilities)
    options.check_outputs(outputs, inputs=[image, scores])
    colours = viz.named_palette(palette)
    threads = options.use_threads(threads)

    with console.status("Reading"):
        photo = read_image(image)
        values = to_chw(read_scores(scores, key), photo.shape[:2], layout, resize)
        kind = kind_of(values, kind)
        params = options.crf_params(
            preset,
            w1=w1,
            sigma_alpha=sigma_alpha,
            sigma_beta=sigma_beta,
            w2=w2,
            sigma_gamma=sigma_gamma,
        )
        if not 2 <= len(values) <= _MOST_LABELS:
            raise ValueError(
                f"scores with {len(values)} labels (expected 2 to {_MOST_LABELS}; "
                "if that is the height, give --layout)"
            )
        resized = values.shape[1:] != photo.shape[:2]
        unary = energies(values, photo.shape[:2], kind)
    with console.status(f"Dense CRF, {iterations} iterations, {threads} threads"):
        start = perf_counter()
        q = dense_crf(
            unary,
            torch.from_numpy(photo).permute(2, 0, 1)[None],
            params,
            iterations=iterations,
            normalization=normalization,
        )
        seconds = perf_counter() - start
    before, after = unary[0].argmin(0).numpy(), q[0].argmax(0).numpy()

    with console.status("Writing"):
        viz.save_label_png(out, after, colours)
        if overlay:
            viz.save_png(options.overlay_path(out), viz.overlay(photo, after, colours))
        if save_probabilities is not None:
            # an open file: to a name that does not end in .npz, as .NPZ, NumPy would append it
            with atomic_path(save_probabilities) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, probabilities=q[0].numpy())
    height, width = after.shape
    console.out.print(
        console.facts(
            ("image", f"{width} x {height}"),
            ("scores", f"{len(values)} labels, {kind}{_resized_from(values) if resized else ''}"),
            ("CRF", f"{options.describe(params)}, {iterations} iterations, {normalization}"),
            ("time", f"{seconds * 1e3:.0f} ms on {threads} threads"),
            ("changed", f"{np.mean(before != after):.2%} of the pixels"),
            ("written", ", ".join(map(str, outputs))),
        ),
        label_table(len(values), before=before, after=after),
    )


def _resized_from(values: np.ndarray) -> str:
    return f", scaled up from {values.shape[2]} x {values.shape[1]}"


def energies(scores: np.ndarray, size: tuple[int, int], kind: str) -> torch.Tensor:
    """The unary -log P(label) of (L, h, w) scores: (1, L, *size) float32.

    Scaled bilinearly with aligned corners, as DeepLab's Interp layer does. Probabilities are
    clipped at 1e-5 (as pydensecrf's unary_from_softmax does): a zero would be beyond recall.
    """
    import torch
    from torch.nn import functional

    values = torch.from_numpy(scores)[None]
    if tuple(values.shape[2:]) != tuple(size):
        values = functional.interpolate(values, size=size, mode="bilinear", align_corners=True)
    if kind == "logits":
        return -values.log_softmax(1)
    return -values.clamp(min=1e-5).log()
