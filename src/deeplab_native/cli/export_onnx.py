"""`deeplab-native export-onnx`: a network and its weights as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .segment import MODELS

EXAMPLES = f"""[bold]Examples[/]

[cyan]deeplab-native export-onnx deeplab_vgg16_largefov net.onnx --weights vgg.safetensors[/]

[cyan]deeplab-native export-onnx deeplab_resnet101_aspp net.onnx --weights w.pth --size 513[/]

[bold]Networks[/]  ([cyan]deeplab-native info[/] describes them)

{", ".join(MODELS)}"""


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Network, one of those below.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file, ending in .onnx.")],
    weights: Annotated[Path, typer.Option(metavar="FILE", help="Its weights.", show_default=False)],
    num_classes: Annotated[
        int, typer.Option(min=2, max=256, help="Labels that the weights were trained for.")
    ] = 21,
    output_stride: Annotated[
        int | None,
        typer.Option(min=1, help="Denser score maps: 4, 2 or 1. Default: 8."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PIXELS",
            help="Fixed height and width of one image. Default: any size and number of images.",
        ),
    ] = None,
) -> None:
    """Write a network as ONNX, for runtimes without PyTorch.

    Input `image` (B, 3, H, W), preprocessed as the file's metadata says; output `scores`, the
    score map.
    """
    from ..models import create_model, set_output_stride
    from ..models.export import check_packages, export_onnx
    from ..weights import check_file
    from . import console

    options.check_suffix("OUT", out, ".onnx")
    options.check_outputs([out], inputs=[weights])
    check_file(weights)
    check_packages()
    with console.status(f"Building {model}"):
        network = create_model(model, num_classes, weights=weights)
        if output_stride is not None:
            set_output_stride(network, output_stride)
    with console.status("Exporting"):
        export_onnx(network, out, size=size)
    console.out.print(
        console.facts(
            ("network", f"{model}, {weights}"),
            ("input", f"image (1, 3, {size}, {size})" if size else "image (B, 3, H, W)"),
            ("output", f"scores, one pixel for {network.output_stride} x {network.output_stride}"),
            ("written", f"{out}, {out.stat().st_size / 1e6:.1f} MB"),
        )
    )
