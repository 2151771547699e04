"""`deeplab-native segment`: network, upsampling by 8, softmax, CRF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from ..models import DeepLab

# The names of `models.list_models`, which imports torch: too slow for --help
MODELS = (
    "deeplab_vgg16_7x7",
    "deeplab_vgg16_4x4",
    "deeplab_vgg16_4x4_r8",
    "deeplab_vgg16_largefov",
    "deeplab_vgg16_aspp_s",
    "deeplab_vgg16_aspp_l",
    "deeplab_resnet101",
    "deeplab_resnet101_largefov",
    "deeplab_resnet101_aspp",
    "deeplab_mobilenetv2_largefov",
    "deeplab_mobilenetv2_aspp_s",
    "deeplab_mobilenetv2_aspp_l",
    "deeplab_mobilenetv2_aspp",
)

_DEFAULT = "deeplab_resnet101_aspp"

EXAMPLES = f"""[bold]Examples[/]

[cyan]deeplab-native segment photo.jpg --weights voc.safetensors[/]

[cyan]deeplab-native segment photo.jpg --model deeplab_vgg16_aspp_l --weights vgg.pth --no-crf[/]

[cyan]deeplab-native segment street.png --weights city.safetensors --num-classes 19 --tile 513[/]

[bold]Networks[/]  ([cyan]deeplab-native info[/] describes them)

{", ".join(MODELS)}"""


def run(
    image: Annotated[Path, typer.Argument(help="The photograph: any picture that Pillow reads.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Network, one of those below. Default: the one that the weights belong to.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Its weights: any file that [cyan]convert-weights[/] reads. Without them the "
            "weights are random and the labels meaningless.",
        ),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=256,
            help="Labels that the weights were trained for. Default: those of the weights, or 21.",
        ),
    ] = None,
    multi_scale: Annotated[
        bool,
        typer.Option(
            "--multi-scale",
            help="Run the network at scales 1, 0.75 and 0.5, fused (the paper's MSC).",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Label PNG. Default: IMAGE_labels.png, here."),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="For large images: the network in overlapping tiles of this size, 8 m + 1, "
            "e.g. 513. Default: the whole image at once.",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Of neighbouring tiles, a multiple of 8. Default: a quarter of the tile.",
        ),
    ] = None,
    crf: Annotated[bool, typer.Option("--crf/--no-crf", help="Refine the labels.")] = True,
    preset: options.Preset = None,
    w1: options.W1 = None,
    sigma_alpha: options.SigmaAlpha = None,
    sigma_beta: options.SigmaBeta = None,
    w2: options.W2 = None,
    sigma_gamma: options.SigmaGamma = None,
    iterations: options.Iterations = 10,
    normalization: options.Normalization = "symmetric",
    scale: options.Scale = 1.0,
    palette: Annotated[
        str | None,
        typer.Option(
            help="Colours of the labels: voc or cityscapes. Default: the weights', or voc."
        ),
    ] = None,
    overlay: options.Overlay = True,
    threads: options.Threads = None,
) -> None:
    """Segment a photograph with DeepLab v2."""
    import torch

    from .. import viz
    from ..models import DeepLab
    from ..models.multi_scale import PAPER_SCALES
    from ..models.predict import predict
    from ..models.tiles import check_tiling
    from ..ops._mean_field_checks import check_normalization, check_scale
    from ..weights import check_file
    from . import console
    from .inputs import read_image
    from .report import label_table

    out = out or Path(f"{image.stem}_labels.png")
    options.check_suffix("--out", out, ".png")
    outputs = [out] + [options.overlay_path(out)] * overlay
    options.check_outputs(outputs, inputs=[image] + [weights] * (weights is not None))
    if weights is not None:
        check_file(weights)
    colours = viz.named_palette(palette or "voc")
    check_normalization(normalization)
    check_scale(scale)
    check_tiling(tile, overlap, None, DeepLab.output_stride)
    threads = options.use_threads(threads)
    photo = read_image(image)
    # a preset of the wrong name is an error before the net is built
    given = {
        "w1": w1,
        "sigma_alpha": sigma_alpha,
        "sigma_beta": sigma_beta,
        "w2": w2,
        "sigma_gamma": sigma_gamma,
    }
    params = options.crf_params(preset, **given) if crf else None

    with console.status(f"Building {model or 'the network'}"):
        network = _network(model, num_classes, weights)
    if multi_scale:
        network.scales = PAPER_SCALES
    if crf and preset is None and network.crf is not None:
        params = options.crf_params(network.crf, **given)
    if palette is None and network.palette is not None:
        colours[: len(network.palette)] = network.palette
    if weights is None:
        console.err.print(
            "WARNING: no --weights: the weights are random and the LABELS ARE MEANINGLESS; "
            "only the flow and the time are real.",
            style="bold red",
        )
    with _following(network.name, crf, threads, tiles=tile is not None) as progress:
        start = perf_counter()
        prediction = predict(
            network,
            photo,
            crf=params,
            iterations=iterations,
            normalization=normalization,
            scale=scale,
            tile=tile,
            overlap=overlap,
            progress=progress,
        )
        seconds = perf_counter() - start
    labels = torch.as_tensor(prediction.labels).cpu().reshape(photo.shape[:2]).numpy()

    with console.status("Writing"):
        viz.save_label_png(out, labels, colours)
        if overlay:
            viz.save_png(options.overlay_path(out), viz.overlay(photo, labels, colours))
    height, width = labels.shape
    console.out.print(
        console.facts(
            ("image", f"{width} x {height}"),
            (
                "network",
                f"{network.name}, {weights or 'RANDOM weights: the labels mean nothing'}"
                f"{_scales(network)}",
            ),
            *([("tiles", f"of {tile} pixels")] if tile else []),
            (
                "CRF",
                f"{options.describe(params)}, {iterations} iterations, {normalization}"
                f"{options.describe_scale(scale)}"
                if params
                else "none",
            ),
            ("time", f"{seconds:.2f} s on {threads} threads"),
            ("written", ", ".join(map(str, outputs))),
        ),
        label_table(network.num_classes, names=network.class_names, share=labels),
    )


def _network(model: str | None, num_classes: int | None, weights: Path | None) -> DeepLab:
    from ..models import create_model
    from ..weights import load_model

    if weights is not None and model is None:
        return load_model(weights, num_classes=num_classes)
    # without weights, random ones that are the same every time
    return create_model(model or _DEFAULT, num_classes or 21, weights=weights, seed=0)


def _scales(network: DeepLab) -> str:
    if network.scales == (1.0,):
        return ""
    return ", at scales " + ", ".join(map(str, network.scales))


@contextmanager
def _following(
    model: str, crf: bool, threads: int, *, tiles: bool
) -> Iterator[Callable[[int, int], None] | None]:
    """A spinner, or a bar of tiles that `predict` moves; nothing where there is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    from . import console

    if not tiles:
        with console.status(f"{model}{' and dense CRF' if crf else ''}, {threads} threads"):
            yield None
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TimeElapsedColumn(),
        console=console.err,
        disable=not console.err.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(f"{model}, {threads} threads", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if crf and done == total:
                bar.update(task, description=f"dense CRF, {threads} threads")

        yield show
