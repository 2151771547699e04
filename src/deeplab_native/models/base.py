"""What all nets have in common: name, classes, input format, initialisation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .._integers import integer
from .._late import late
from ..layers import AtrousConv2d, FrozenBatchNorm2d
from .multi_scale import MultiScaleScores, check_scales, scores_at_scales
from .preprocessing import CAFFE, Preprocessing

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..crf import CRFParams


class DeepLab(nn.Module):
    """Fully convolutional net from preprocessed images to a score map.

    A subclass gives `score_map` and `classifiers`. Nets are made by `create_model`, which draws the
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
        scales: of the input, (1.0,) or several with 1.0 among them: `forward` then runs the net
            at each, with the same weights, and returns the maximum. It may be set at any time,
            and is no part of the state dict: weights trained in either way load in both.

    Shapes:
        input (B, 3, H, W) float -> scores (B, L, h, w), at 1/8 of the resolution. H = 8 m + 1
        gives h = m + 1, whose pixels lie at 0, 8, ..., 8 m: the sizes the authors use. Other
        sizes round as each net says. Several scales change nothing in the shape.
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
        options: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.num_classes = integer("num_classes", num_classes, least=1)
        self.preprocessing = preprocessing
        self.options = dict(options or {})
        self._scales: tuple[float, ...] = (1.0,)

    @property
    def scales(self) -> tuple[float, ...]:
        """Factors of the input's size whose scores are fused; (1.0,) is a single pass."""
        return self._scales

    @scales.setter
    def scales(self, scales: Sequence[float]) -> None:
        self._scales = check_scales(scales)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> scores (B, L, h, w): of the one scale, or the fused ones of all."""
        return self.score_map(x) if self._scales == (1.0,) else self.multi_scale(x).fused

    def multi_scale(self, x: torch.Tensor) -> MultiScaleScores:
        """Score maps of every one of `scales`, and the fused one; `score_map_loss` takes them.

        Each scale is one pass over the whole batch (section 4.1.2; the authors' ResNet-101 trains
        on the losses of 1, 0.75, 0.5 and the fused map). Of a single scale, the only branch is
        the fused map. Wrappers such as DistributedDataParallel see `forward` only: give them a
        module whose `forward` calls this and the loss.

        Raises:
            TypeError, ValueError: `x` is no tensor (B, 3, H, W) with pixels.
        """
        return scores_at_scales(self.score_map, x, self._scales, self.output_stride)

    def score_map(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (B, L, h, w) of an input (B, 3, H, W), at the one scale that it has."""
        raise NotImplementedError

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
        """The net of a folder or a hub's repository, see `hub.from_pretrained`."""
        model = late("from_pretrained")(name_or_folder, **arguments)
        if not isinstance(model, cls):
            raise TypeError(
                f"name_or_folder: expected a {cls.__name__}, {name_or_folder} is a "
                f"{type(model).__name__}"
            )
        return model

    def save_pretrained(self, folder: str | os.PathLike[str], **arguments: Any) -> str | None:
        """Writes weights and configuration to a folder, see `hub.save_pretrained`."""
        url: str | None = late("save_pretrained")(self, folder, **arguments)
        return url

    def push_to_hub(self, repo_id: str, **arguments: Any) -> str:
        """Writes weights and configuration to a hub, see `hub.push_to_hub`."""
        url: str = late("push_to_hub")(self, repo_id, **arguments)
        return url

    def extra_repr(self) -> str:
        """Name in the registry, number of classes, and scales other than (1.0,)."""
        scales = "" if self._scales == (1.0,) else f", scales={self._scales}"
        return f"{self.name!r}, num_classes={self.num_classes}{scales}"
