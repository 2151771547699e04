"""Small pictures, and the bilateral filter over their pixels as a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deeplab_native import permutohedral_filter
from deeplab_native.ops.pairwise_features import image_features

HEIGHT, WIDTH, LABELS = 6, 8, 3  # pixels in fours: the CRF's lattice has no vertices but theirs
SIGMAS = {"sigma_xy": 6.0, "sigma_rgb": 40.0}


def picture(device: torch.device | str = "cpu", batch: int = 2, channels: int = 3, seed: int = 0):
    """(image uint8, probabilities float64) of two noisy regions."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 50, (batch, channels, HEIGHT, WIDTH), generator=generator)
    noise[:, :, :, WIDTH // 2 :] += 120
    scores = torch.randn(batch, LABELS, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    return noise.to(torch.uint8).to(device), scores.softmax(1).to(device)


def lattice_matrices(image: torch.Tensor, sigma_xy: float, sigma_rgb: float) -> torch.Tensor:
    """K (B, N, N) float64: what the lattice makes of unit vectors, on the CPU."""
    features = image_features(image.cpu(), sigma_xy, sigma_rgb)
    identity = torch.eye(features.shape[1], dtype=torch.float64)
    return torch.stack([permutohedral_filter(identity, own) for own in features])


def exact_matrices(image: torch.Tensor, sigma_xy: float, sigma_rgb: float) -> torch.Tensor:
    """The Gaussian kernel itself (B, N, N) float64."""
    features = image_features(image.cpu(), sigma_xy, sigma_rgb).double()
    return (-torch.cdist(features, features).square() / 2).exp()


def energies(
    matrices: torch.Tensor,
    maps: Sequence[torch.Tensor],
    *,
    gate: torch.Tensor | None = None,
    constant: bool = True,
) -> torch.Tensor:
    """(B, L): S_k^T G K (r - S_k) of S, r = maps, or -S_k^T G K S_k; G = diag(gate)."""
    s, r = (m.flatten(2).cpu().double() for m in maps)
    s = s * r
    other = r - s if constant else -s
    rows = s if gate is None else s * gate.flatten(1)[:, None].cpu().double()
    return torch.einsum("bki,bij,bkj->bk", rows, matrices, other)
