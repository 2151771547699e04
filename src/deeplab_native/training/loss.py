"""The training loss as a module: preprocessing, net and cross-entropy in one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import distributed, nn

from ..data import VOID
from ..models import label_shrink
from ..models.base import DeepLab
from ..models.loss import loss_terms
from ..models.multi_scale import interp
from .samples import Batch, DeviceBatch

if TYPE_CHECKING:
    from .config import Loss


class TrainingLoss(nn.Module):
    """Loss of a batch; wrappers such as DistributedDataParallel see its `forward`.

    Attributes:
        net: the net that is trained.
    """

    def __init__(self, net: DeepLab, config: Loss, *, channels_last: bool) -> None:
        super().__init__()
        self.net = net
        self.config = config
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, batch: Batch | DeviceBatch) -> torch.Tensor:
        """Scalar float32; the mean of all processes' is the loss of their batches together."""
        x = batch.input if isinstance(batch, DeviceBatch) else self.prepare(batch)
        scores = self.net.multi_scale(x)
        losses = [self._cross_entropy(s, batch.labels, stride) for s, stride in loss_terms(scores)]
        return torch.stack(losses).sum()

    def prepare(self, batch: Batch) -> torch.Tensor:
        """The net's input (B, 3, H, W): preprocessed, 0 (the mean colour) outside of the images."""
        x = self.net.preprocessing(batch.images)
        for image, (height, left, right) in zip(x, batch.inside, strict=True):
            image[:, height:] = 0
            image[:, :, :left] = 0
            image[:, :, right:] = 0
        return x.contiguous(memory_format=self.layout)

    def _cross_entropy(
        self, scores: torch.Tensor, labels: torch.Tensor, stride: int
    ) -> torch.Tensor:
        scores = scores.float()
        if self.config.at == "input":
            scores = interp(scores, labels.shape[1:])
            target = labels.long()
        else:
            target = label_shrink(labels, stride, scores.shape[2:])
        losses = nn.functional.cross_entropy(scores, target, ignore_index=VOID, reduction="none")
        known = target != VOID
        if self.config.normalization == "image":
            return (losses.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)).mean()
        pixels = known.sum()
        if distributed.is_initialized():
            # over the mean of all processes: their gradients are averaged
            distributed.all_reduce(pixels)
            return losses.sum() * distributed.get_world_size() / pixels.clamp(min=1)
        return losses.sum() / pixels.clamp(min=1)
