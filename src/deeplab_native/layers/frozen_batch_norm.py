"""Batch normalisation with fixed statistics and a fixed affine map."""

from __future__ import annotations

import torch
from torch import nn


class FrozenBatchNorm2d(nn.Module):
    """y = weight * (x - running_mean) / sqrt(running_var + eps) + bias, in training as well.

    The authors fine-tune ResNet-101 with `use_global_stats: true` and a learning rate of 0 for
    the scale layers: with crops of 321 x 321 and batches of 1 to 10, statistics of a batch say
    little. So `.train()` changes nothing here, and `weight` and `bias` are parameters (they count
    and are saved) that require no gradient.

    Args:
        channels: C.
        eps: added to the variance; 1e-5 in the authors' net definition.
        device, dtype: of the parameters and buffers.

    Shapes:
        input (B, C, H, W) -> the same; parameters `weight`, `bias` (C,); buffers `running_mean`,
        `running_var` (C,).
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps

        def empty() -> torch.Tensor:
            return torch.empty(channels, device=device, dtype=dtype)

        self.weight = nn.Parameter(empty(), requires_grad=False)
        self.bias = nn.Parameter(empty(), requires_grad=False)
        self.register_buffer("running_mean", empty())
        self.register_buffer("running_var", empty())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Makes it the identity (up to eps): mean 0, variance 1, weight 1, bias 0."""
        nn.init.zeros_(self.running_mean)
        nn.init.ones_(self.running_var)
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same, by the fixed statistics also in training."""
        return nn.functional.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=False,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        """Channels and eps."""
        return f"{self.channels}, eps={self.eps}"
