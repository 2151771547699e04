"""`deeplab-native export-onnx`: a network and its weights as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options, weights_words
from .names import MODELS

EXAMPLES = f"""[bold]Examples[/]

[cyan]deeplab-native export-onnx --weights vgg.safetensors -o net.onnx[/]

[cyan]deeplab-native export-onnx --model deeplab_resnet101_aspp --weights w.pth -o net.onnx
--size 513[/]

[bold]Networks[/]  ([cyan]deeplab-native info[/] describes them)

{", ".join(MODELS)}"""


def run(
    weights: Annotated[
        Path, typer.Option(metavar="FILE", help="Weights of the network.", show_default=False)
    ],
    name: Annotated[str | None, typer.Argument(metavar="MODEL", hidden=True)] = None,
    file: Annotated[Path | None, typer.Argument(metavar="OUTPUT", hidden=True)] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.onnx", help="The file.", show_default=False),
    ] = None,
    model: options.Model = None,
    num_classes: options.NumClasses = None,
    output_stride: Annotated[
        int | None,
        typer.Option(min=1, help="Denser score maps: 4, 2 or 1. Default: the net's, 8 or 16."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PIXELS",
            help="Fixed height and width of one image. Default: any size and number of images.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write a network as ONNX, for runtimes without PyTorch.

    Input `image` (B, 3, H, W), preprocessed as the file's metadata says; output `scores`, the
    score map.
    """
    from ..models import set_output_stride
    from ..models.export import check_packages, export_onnx
    from ..weights import check_file
    from ..weights.building import load_named
    from . import console

    out: Path = options.one_of("--output", output, file)
    if model is not None or name is not None:
        model = options.one_of("--model", model, name)
    options.check_suffix("--output", out, ".onnx")
    options.check_outputs([out], inputs=[weights])
    check_file(weights)
    check_packages()
    with weights_words.in_options(), console.status("Building the network"):
        network = load_named(weights, model, num_classes)
        if output_stride is not None:
            set_output_stride(network, output_stride)
    with console.status("Exporting"):
        export_onnx(network, out, size=size)
    shape = f"(1, 3, {size}, {size})" if size else "(B, 3, H, W)"
    megabytes = out.stat().st_size / 1e6
    console.result(
        json,
        {
            "network": network.name, "weights": weights, "input": shape,
            "output_stride": network.output_stride, "written": [out],
        },
        console.facts(
            ("network", f"{network.name}, {weights}"),
            ("input", f"image {shape}"),
            ("output", f"scores, one pixel for {network.output_stride} x {network.output_stride}"),
            ("written", f"{out}, {megabytes:.1f} MB"),
        ),
    )  # fmt: skip
