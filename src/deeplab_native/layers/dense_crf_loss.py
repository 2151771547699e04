"""The dense CRF's energy as a regularised loss (Tang et al., ECCV 2018)."""

from __future__ import annotations

import torch
from torch import nn

from ..ops._dense_crf_inputs import ImageRange
from ..ops.crf_params import finite_number
from ..ops.dense_crf_loss import dense_crf_loss
from ..ops.pairwise_features import Sigma


class DenseCRFLoss(nn.Module):
    """weight times `dense_crf_loss`: neighbours of one colour should get one label.

    For nets that learn from scribbles, points or boxes: beside the partial cross entropy, which
    looks at labelled pixels alone, it asks all pixels for segments that end where colours do.
    Arguments and their order are those of the authors' PyTorch code (rloss), whose parameters are
    the defaults; what differs from it is in docs/weak_supervision.md. It works on the device of its
    tensors, has no parameters nor state, and is float32 within autocast.

    Args:
        weight: of the loss.
        sigma_rgb, sigma_xy, scale_factor: as of `dense_crf_loss`; sigma_xy at the full size.
        constant, normalized_cut, ignore_index, reduction, image_range: likewise.

    Shapes:
        image (B, C, H, W), probabilities (B, L, H, W), roi and labels (B, H, W) -> (), or (B,).

    Raises:
        TypeError, ValueError: `weight` is no finite number; or as `dense_crf_loss`, by `forward`.

    Example:
        >>> regularised = DenseCRFLoss(2e-9)
        >>> loss = cross_entropy(scores, scribbles, ignore_index=255)
        >>> loss = loss + regularised(photos, scores.softmax(1))
    """

    def __init__(
        self,
        weight: float = 2e-9,
        sigma_rgb: Sigma = 15.0,
        sigma_xy: Sigma = 100.0,
        scale_factor: float = 0.5,
        *,
        constant: bool = True,
        normalized_cut: bool = False,
        ignore_index: int = 255,
        reduction: str = "mean",
        image_range: ImageRange | None = None,
    ) -> None:
        super().__init__()
        self.weight = finite_number("weight", weight)
        self.sigma_rgb, self.sigma_xy = sigma_rgb, sigma_xy
        self.scale_factor = scale_factor
        self.constant, self.normalized_cut = constant, normalized_cut
        self.ignore_index = ignore_index
        self.reduction, self.image_range = reduction, image_range

    def forward(
        self,
        image: torch.Tensor,
        probabilities: torch.Tensor,
        roi: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of a batch, see `dense_crf_loss`."""
        loss = dense_crf_loss(
            image,
            probabilities,
            roi,
            labels,
            sigma_rgb=self.sigma_rgb,
            sigma_xy=self.sigma_xy,
            scale_factor=self.scale_factor,
            constant=self.constant,
            normalized_cut=self.normalized_cut,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            image_range=self.image_range,
        )
        return self.weight * loss

    def extra_repr(self) -> str:
        """The arguments that decide what is computed."""
        return (
            f"weight={self.weight}, sigma_rgb={self.sigma_rgb}, sigma_xy={self.sigma_xy}, "
            f"scale_factor={self.scale_factor}, constant={self.constant}, "
            f"normalized_cut={self.normalized_cut}, reduction={self.reduction!r}"
        )
