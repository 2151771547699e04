"""The nets by name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from .._late import late
from .base import DeepLab
from .mobilenet import DeepLabMobileNetV2, DeepLabMobileNetV2ASPP
from .multi_scale import check_scales
from .resnet import DeepLabResNet101
from .vgg import DeepLabVGG16

_LARGEFOV = (12,)
_ASPP_S = (2, 4, 8, 12)
_ASPP_L = (6, 12, 18, 24)


@dataclass(frozen=True)
class ModelInfo:
    """A net of the registry.

    Attributes:
        name: for `create_model`.
        field_of_view: side in input pixels of the window that the widest filter of the head sees,
            counted as in the paper's Table 1: 32 ((k - 1) r / 4 + 1).
        output_stride: input pixels a pixel of the score map.
        paper_row: where the paper reports it, with its mIOU in % on VOC 2012 val before / after
            the CRF; or that it does not.
    """

    name: str
    field_of_view: int
    output_stride: int
    paper_row: str
    build: Callable[..., DeepLab] = field(repr=False)

    def parameters(self, num_classes: int = 21) -> int:
        """Number of parameters, those of frozen batch normalisation included."""
        with torch.device("meta"):
            model = self.build(num_classes, name=self.name)
        return sum(p.numel() for p in model.parameters())


def _info(
    name: str,
    paper_row: str,
    architecture: type[DeepLab],
    *,
    rates: Sequence[int],
    kernel_size: int = 3,
    **arguments: int,
) -> ModelInfo:
    net: Callable[..., DeepLab] = architecture
    return ModelInfo(
        name=name,
        field_of_view=32 * (kernel_size - 1) * max(rates) // 4 + 32,
        output_stride=architecture.output_stride,
        paper_row=paper_row,
        build=partial(net, kernel_size=kernel_size, rates=rates, **arguments),
    )


_NOT_IN_THE_PAPER = "not in the paper"
_MODELS = {
    info.name: info
    for info in (
        _info(
            "deeplab_vgg16_7x7",
            "Table 1, 7 x 7 at rate 4: 64.38 / 67.64",
            DeepLabVGG16,
            kernel_size=7,
            rates=(4,),
            filters=4096,
        ),
        _info(
            "deeplab_vgg16_4x4",
            "Table 1, 4 x 4 at rate 4: 59.80 / 63.74",
            DeepLabVGG16,
            kernel_size=4,
            rates=(4,),
            filters=4096,
        ),
        _info(
            "deeplab_vgg16_4x4_r8",
            "Table 1, 4 x 4 at rate 8: 63.41 / 67.14",
            DeepLabVGG16,
            kernel_size=4,
            rates=(8,),
            filters=4096,
        ),
        _info(
            "deeplab_vgg16_largefov",
            "Table 3, LargeFOV: 65.76 / 69.84",
            DeepLabVGG16,
            rates=_LARGEFOV,
            pool5a=True,
        ),
        _info(
            "deeplab_vgg16_aspp_s",
            "Table 3, ASPP-S: 66.98 / 69.73",
            DeepLabVGG16,
            rates=_ASPP_S,
        ),
        _info(
            "deeplab_vgg16_aspp_l",
            "Table 3, ASPP-L: 68.96 / 71.57",
            DeepLabVGG16,
            rates=_ASPP_L,
        ),
        _info(
            "deeplab_resnet101",
            "Table 4, first row: 68.72 / -",
            DeepLabResNet101,
            rates=(1,),
            kernel_size=1,
        ),
        _info(
            "deeplab_resnet101_largefov",
            "Table 4, MSC + COCO + Aug + LargeFOV: 75.54 / -",
            DeepLabResNet101,
            rates=_LARGEFOV,
        ),
        _info(
            "deeplab_resnet101_aspp",
            "Table 4, MSC + COCO + Aug + ASPP: 76.35 / 77.69",
            DeepLabResNet101,
            rates=_ASPP_L,
        ),
        _info(
            "deeplab_mobilenetv2_largefov",
            _NOT_IN_THE_PAPER,
            DeepLabMobileNetV2,
            rates=_LARGEFOV,
            pool5a=True,
        ),
        _info(
            "deeplab_mobilenetv2_aspp_s",
            _NOT_IN_THE_PAPER,
            DeepLabMobileNetV2,
            rates=_ASPP_S,
        ),
        _info(
            "deeplab_mobilenetv2_aspp_l",
            _NOT_IN_THE_PAPER,
            DeepLabMobileNetV2,
            rates=_ASPP_L,
        ),
        _info(
            "deeplab_mobilenetv2_aspp",
            _NOT_IN_THE_PAPER,
            DeepLabMobileNetV2ASPP,
            rates=_ASPP_L,
        ),
    )
}


def list_models() -> list[ModelInfo]:
    """The nets that `create_model` makes."""
    return list(_MODELS.values())


def create_model(
    name: str,
    num_classes: int = 21,
    *,
    weights: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    scales: Sequence[float] = (1.0,),
    **options: int,
) -> DeepLab:
    """Makes a net, in training mode, on the default device (`torch.device` as a context).

    Under `torch.device("meta")` it has shapes only. Otherwise the parameters are read from
    `weights`, or drawn once: N(0, 0.01) for the classifiers as in the paper (section 4.1), He's
    for the rest, which the paper takes from ImageNet.

    Args:
        name: one of `list_models()`.
        num_classes: channels L of the score map, background included (21 for PASCAL VOC).
        weights: file that `deeplab_native.weights.load` reads.
        seed: of the drawn parameters, the same on every device; None takes torch's generator.
        scales: of the input. The paper's nets with multi-scale inputs ("MSC") have (1.0, 0.75,
            0.5): the net runs at each, and the score map is the maximum. `DeepLab.scales` may
            change it later; the weights are the same.
        options: of the architecture. ResNet-101: `stride_in_1x1=True`; MobileNetV2:
            `output_stride=8` (or 16, at which its rates are halved), `filters=1024` of fc6
            and fc7.

    Raises:
        ValueError: the name is unknown; `num_classes` is not positive; `scales` are no fractions
            p / q with 1.0 among them; `weights` and the net do not match; weights are asked for
            on the meta device.
        TypeError: an argument has another type; an option is unknown to the architecture.
        OSError: `weights` cannot be opened.
    """
    if not isinstance(name, str):
        advice = "; pass its .name" if isinstance(name, ModelInfo) else ""
        raise TypeError(f"name: expected a string, got {type(name).__name__}{advice}")
    if name not in _MODELS:
        raise ValueError(f"name: unknown net {name!r}; {_suggest(name)}")
    scales = check_scales(scales)
    if weights is not None:
        late("check_weights_file")(weights)  # before any memory is taken
    with torch.device("meta"):
        model = _MODELS[name].build(num_classes, name=name, **options)
    unrecorded = options.keys() - model.options.keys()
    if unrecorded:  # its weights file would be read into another net
        raise TypeError(
            f"{', '.join(sorted(unrecorded))}: no option of {name}, expected of "
            f"{sorted(model.options)}"
        )
    model.scales = scales
    device = torch.get_default_device()
    if device.type == "meta":
        if weights is not None:
            raise ValueError("weights: a net on the meta device has no memory to read them into")
        return model
    with_memory(model)
    if weights is not None:
        late("load_weights")(model, weights)
    else:
        # drawn on the CPU: the generators of devices differ
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        model.reset_parameters(generator)
    return model.to(device)


def with_memory(model: DeepLab) -> DeepLab:
    """The net, made on the meta device, on the CPU, with no values yet.

    As `to_empty`, which by `empty_like` of tensors on the meta device imports SymPy: 0.35 s.
    """

    def empty(t: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cpu")

    model._apply(empty)  # type: ignore[no-untyped-call]
    return model


def _suggest(name: str) -> str:
    close = difflib.get_close_matches(str(name), _MODELS, n=3, cutoff=0.5)
    others = [known for known in _MODELS if known not in close]
    if close:
        return f"did you mean {' or '.join(close)}? The others are {', '.join(others)}"
    return f"expected one of {', '.join(others)}"
