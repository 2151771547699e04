"""What all nets have in common: name, classes, input format, initialisation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .._native import integer
from ..layers import AtrousConv2d, FrozenBatchNorm2d
from .preprocessing import CAFFE, Preprocessing

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..crf import CRFParams


class DeepLab(nn.Module):
    """Fully convolutional net from preprocessed images to a score map.

    A subclass gives `forward` and `classifiers`. Nets are made by `create_model`, which draws the
    parameters; a subclass called directly leaves them as the layers' own defaults.

    Attributes:
        name: name in the registry.
        num_classes: channels L of the score map, background included.
        preprocessing: input format; it is replaced by that of the weights when they are loaded.
        options: switches of the architecture that the shapes of its parameters don't show.
        output_stride: input pixels a pixel of the score map.
        class_names: one a class, or None.
        palette: (r, g, b) of every class, 0..255, or None.
        crf: parameters of the CRF found for the weights, or None. Like the two above it is for
            users and files: nothing is computed with it.

    Shapes:
        input (B, 3, H, W) float -> scores (B, L, h, w), at 1/8 of the resolution. H = 8 m + 1
        gives h = m + 1, whose pixels lie at 0, 8, ..., 8 m: the sizes the authors use. Other
        sizes round as in Caffe, which each net says.
    """

    output_stride = 8
    class_names: tuple[str, ...] | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    crf: CRFParams | None = None

    def __init__(
        self,
        name: str,
        num_classes: int,
        *,
        preprocessing: Preprocessing = CAFFE,
        options: Mapping[str, bool] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.num_classes = integer("num_classes", num_classes, least=1)
        self.preprocessing = preprocessing
        self.options = dict(options or {})

    def classifiers(self) -> list[AtrousConv2d | nn.Conv2d]:
        """The last layers, whose outputs are scores (the authors train them at 10x the rate)."""
        raise NotImplementedError

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws every parameter: He's normal distribution for the trunk, the paper's for the head.

        The paper starts from ImageNet weights and draws only the classifiers, N(0, 0.01) with
        bias 0 (section 4.1); for the trunk, He et al. (arXiv:1502.01852, Equation 10) keeps the
        activations of deep nets in range.
        """
        classifiers = self.classifiers()
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, AtrousConv2d)):
                if module in classifiers:
                    nn.init.normal_(module.weight, std=0.01, generator=generator)
                else:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, FrozenBatchNorm2d):
                module.reset_parameters()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | os.PathLike[str], **arguments: Any) -> Self:
        """The net of a folder or a hub's repository, see `models.hub.from_pretrained`."""
        from .hub import from_pretrained

        model = from_pretrained(name_or_folder, **arguments)
        if not isinstance(model, cls):
            raise TypeError(
                f"name_or_folder: expected a {cls.__name__}, {name_or_folder} is a "
                f"{type(model).__name__}"
            )
        return model

    def save_pretrained(self, folder: str | os.PathLike[str], **arguments: Any) -> str | None:
        """Writes weights and configuration to a folder, see `models.hub.save_pretrained`."""
        from .hub import save_pretrained

        return save_pretrained(self, folder, **arguments)

    def push_to_hub(self, repo_id: str, **arguments: Any) -> str:
        """Writes weights and configuration to a hub, see `models.hub.push_to_hub`."""
        from .hub import push_to_hub

        return push_to_hub(self, repo_id, **arguments)

    def extra_repr(self) -> str:
        return f"{self.name!r}, num_classes={self.num_classes}"
