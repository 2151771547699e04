"""Which net labels photographs, and how: arguments of `segment`, checked and then loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import viz
from ..crf import CRFParams
from ..models import DeepLab
from ..models.tiles import check_tiling
from ..weights import EMBEDDED_SIDE, check_file
from ._segment_image import Net, Settings, colours_of
from .settings import CRFSettings, FromWeights, check_device


@dataclass(frozen=True)
class Asked:
    """Arguments of `segment`; raises what it does where they do not go together."""

    model: str | DeepLab | None
    weights: str | Path | None
    num_classes: int | None
    multi_scale: bool
    tile: int | None
    overlap: int | None
    longest_side: int | None
    crf: CRFParams | CRFSettings | FromWeights | str | None
    palette: str | None
    exif: bool
    device: str

    def __post_init__(self) -> None:
        if self.weights is not None:
            check_file(self.weights)
        if self.palette is not None:
            viz.named_palette(self.palette)
        check_tiling(self.tile, self.overlap, None, DeepLab.output_stride)
        check_device(self.device, kernels=self.crf is not None)
        if self.longest_side is not None and self.tile is not None:
            raise ValueError("`longest_side` and `tile`: expected one of them")

    def load(self) -> tuple[Net, DeepLab, Settings]:
        """The net by name and itself, and how images are labelled with it."""
        longest_side = self.longest_side
        if isinstance(self.model, DeepLab):
            net, network = Net(), self.model
        else:
            file = Path(self.weights).resolve() if self.weights else None
            net = Net(self.model, file, self.num_classes, self.multi_scale, self.device)
            network = net.load()
            if longest_side is None and self.tile is None and net.embedded:
                longest_side = EMBEDDED_SIDE
        settings = Settings(
            CRFSettings.chosen(self.crf, network.crf),
            self.tile, self.overlap, longest_side, colours_of(self.palette, network), self.exif,
        )  # fmt: skip
        return net, network, settings


def names_of_classes(network: DeepLab) -> tuple[str, ...]:
    """Those of its weights; VOC's where there are as many; or numbers."""
    names = network.class_names
    if names is None and network.num_classes == len(viz.VOC_CLASSES):
        names = viz.VOC_CLASSES
    return tuple(names or (f"class {i}" for i in range(network.num_classes)))
