"""`deeplab-native convert-weights`: other projects' checkpoints to ours, and one way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options, weights_words

if TYPE_CHECKING:
    from ..models import DeepLab
    from ..weights import Checkpoint

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native convert-weights deeplabv2_resnet101_msc-vocaug-20000.pth -o voc.safetensors
--palette voc --crf voc-resnet101[/]

[cyan]deeplab-native convert-weights train2_iter_20000.caffemodel -o vgg.safetensors
--model deeplab_vgg16_aspp_l[/]

[cyan]deeplab-native convert-weights vgg16-397923af.pth -o start.safetensors
--model deeplab_vgg16_largefov --num-classes 21 --new-layers classifier[/]

[cyan]deeplab-native convert-weights voc.safetensors -o back.pth[/]"""

_OUTPUT = "The file to write: .safetensors, or .pth for deeplab-pytorch's keys."
_FORMATS = {"caffe": "BGR, 0..255, mean taken away", "torchvision": "RGB, 0..1, standardised"}
_ALL_FORMATS = ", or ".join(f"{name} ({what})" for name, what in _FORMATS.items())


def run(
    source_file: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="A .pth, .caffemodel or .safetensors; what it is shows in its keys."
        ),
    ],
    file: Annotated[Path | None, typer.Argument(metavar="OUTPUT", hidden=True)] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help=_OUTPUT)
    ] = None,
    model: options.Model = None,
    num_classes: Annotated[
        int | None,
        typer.Option("--num-classes", "--classes", min=1, help="Labels, where the file has none."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="PROJECT",
            help="Whose weights they are, where the keys leave it open: deeplab_native, "
            "deeplab-pytorch, isht7, torchvision, torchvision-features, caffe-port or caffemodel.",
        ),
    ] = None,
    new_layers: Annotated[
        str | None,
        typer.Option(help="Draw these anew: classifier, or head (all fc layers)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    input_format: Annotated[
        str | None,
        typer.Option(help=f"Of weights under our own names that do not say it: {_ALL_FORMATS}."),
    ] = None,
    stride_in_1x1: Annotated[
        bool | None,
        typer.Option(
            "--stride-in-1x1/--stride-in-3x3",
            help="Where a ResNet under our own names strides, as Caffe's or as torchvision's.",
        ),
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of the labels to keep with them, a line each."),
    ] = None,
    palette: Annotated[
        str | None, typer.Option(help="Colours to keep with them: voc, cityscapes or okabe-ito.")
    ] = None,
    crf: Annotated[
        str | None, typer.Option(metavar="PRESET", help="CRF parameters to keep with them.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Convert other projects' checkpoints to safetensors that say what they are."""
    from .. import viz, weights
    from ..crf import CRFParams
    from ..models import CAFFE
    from . import console

    out: Path = options.one_of("--output", output, file)
    options.check_outputs([out], inputs=[source_file, *([class_names] if class_names else [])])
    if input_format is not None and input_format not in _FORMATS:
        raise ValueError(
            f"--input-format: expected one of {', '.join(_FORMATS)}; got {input_format!r}"
        )
    formats = {"caffe": CAFFE, "torchvision": weights.TORCHVISION}
    stride: dict[str, Any] = {} if stride_in_1x1 is None else {"stride_in_1x1": stride_in_1x1}
    with weights_words.in_options(converting=True), console.status(f"Converting {source_file}"):
        network, checkpoint = weights.convert(
            source_file, out,
            model=model, num_classes=num_classes, source=source, new_layers=new_layers,
            preprocessing=None if input_format is None else formats[input_format], seed=seed,
            class_names=None if class_names is None else _lines(class_names),
            palette=None if palette is None else viz.named_palette(palette),
            crf=None if crf is None else CRFParams.preset(crf), **stride,
        )  # fmt: skip
    _report(out, checkpoint, network, new_layers, json)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"--class-names {path}: expected a text file in UTF-8") from None
    return tuple(line for line in lines if line)


def _report(
    out: Path, checkpoint: Checkpoint, network: DeepLab, new_layers: str | None, as_json: bool
) -> None:
    from . import console

    drawn = {None: "none", "classifier": "the classifier", "head": "all fc layers"}[new_layers]
    values = sum(t.numel() for t in network.state_dict().values())
    switches = ", ".join(f"{key}={value}" for key, value in network.options.items())
    rows = [
        ("recognised", f"{checkpoint.source.what}, {len(checkpoint.tensors)} tensors"),
        ("network", network.name + (f" ({switches})" if switches else "")),
        ("labels", f"{network.num_classes}{_kept(network)}"),
        ("input", str(network.preprocessing)),
        ("new layers", drawn),
        ("values", f"{values:,}"),
        ("written", f"{out}, {out.stat().st_size / 1e6:.1f} MB"),
    ]
    result = {
        "source": checkpoint.source.name, "network": network.name, "options": network.options,
        "num_classes": network.num_classes, "new_layers": new_layers, "values": values,
        "written": [out],
    }  # fmt: skip
    console.result(as_json, result, console.facts(*rows))


def _kept(network: DeepLab) -> str:
    what = {"names": network.class_names, "colours": network.palette, "CRF": network.crf}
    kept = [name for name, value in what.items() if value is not None]
    return f", with {' and '.join(kept)}" if kept else ""
