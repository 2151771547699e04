"""`deeplab-native segment`: network, upsampling, softmax, CRF, from photographs to label PNGs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

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

_OUTPUT = Path("deeplab-native-segment")

EXAMPLES = f"""[bold]Examples[/]

[cyan]deeplab-native segment photo.jpg[/]  finds cats, cows, dogs, horses, persons and sheep

[cyan]deeplab-native segment photos/ --output labels --weights voc.safetensors[/]

[cyan]deeplab-native segment photo.jpg --model deeplab_vgg16_aspp_l --weights vgg.pth --no-crf[/]

[cyan]deeplab-native segment street.png --weights city.safetensors --tile 513[/]

[bold]Output[/]

DIR/NAME.png, the class of every pixel as an 8-bit palette PNG; DIR/overlays/NAME.png; \
DIR/classes.json, the names of the classes by index.

[bold]Networks[/]  ([cyan]deeplab-native info[/] describes them)

{", ".join(MODELS)}"""


def run(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Photographs, any that Pillow reads, or folders of them.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Folder of the results."),
    ] = _OUTPUT,
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
            help="Its weights: any file that [cyan]convert-weights[/] reads. Default: those that "
            "come with the package; with --model random ones, whose labels are meaningless.",
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
    longest_side: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            min=1,
            help="Larger photographs are reduced to this for the network; the labels and the CRF "
            "are at full size. Default: 321 with the package's weights, which were trained so, "
            "unless there are tiles; with others none.",
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
    """Segment photographs with DeepLab v2."""
    from .. import viz
    from ..models import DeepLab
    from ..models.tiles import check_tiling
    from ..ops._mean_field_checks import check_iterations, check_normalization, check_scale
    from ..weights import EMBEDDED_SIDE, check_file
    from . import segment_run

    if weights is not None:
        check_file(weights)
    if palette is not None:
        viz.named_palette(palette)
    check_iterations(iterations)
    check_normalization(normalization)
    check_scale(scale)
    check_tiling(tile, overlap, None, DeepLab.output_stride)
    if longest_side is None and tile is None and model is None and weights is None:
        longest_side = EMBEDDED_SIDE
    if longest_side is not None and tile is not None:
        raise ValueError("--longest-side and --tile: expected one of them")
    threads = options.use_threads(threads)
    # a preset of the wrong name is an error before the net is built
    given = {
        "w1": w1,
        "sigma_alpha": sigma_alpha,
        "sigma_beta": sigma_beta,
        "w2": w2,
        "sigma_gamma": sigma_gamma,
    }
    params = options.crf_params(preset, **given) if crf else None
    files = segment_run.photographs(images)
    results = segment_run.Results(output, overlays=overlay)
    results.check(images, files)

    network = segment_run.network(model, num_classes, weights)
    if multi_scale:
        network.scales = segment_run.PAPER_SCALES
    if crf and preset is None and network.crf is not None:
        params = options.crf_params(network.crf, **given)
    segment_run.run(
        network,
        files,
        results,
        segment_run.Settings(params, iterations, normalization, scale, tile, overlap, longest_side),
        palette=palette,
        threads=threads,
        origin=segment_run.origin(model, weights),
    )
