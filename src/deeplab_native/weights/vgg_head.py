"""fc6 and fc7 of VGG-16 for ImageNet as the convolutions of DeepLab's heads.

A matrix that follows a map of 512 x 7 x 7 is a convolution of 7 x 7 taps (Long et al.,
arXiv:1411.4038). Fewer taps: every second of 7 for 4 x 4, every third for 3 x 3, the outermost kept
(the decimation of DeepLab v1, arXiv:1412.7062). Fewer filters: a random subset of the 4,096 of fc6
and of fc7 (DeepLab v2, section 4.1), fc7's inputs being the filters of fc6 that are left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

_FILTERS, _CHANNELS, _TAPS = 4096, 512, 7
_EVERY = {7: 1, 4: 2, 3: 3}  # taps {0, ..., 6}, {0, 2, 4, 6} and {0, 3, 6} in each direction
_FC6 = re.compile(r"fc6(_\d+)?\.weight")


HEAD_KEYS = {
    "fc6.weight": (_FILTERS, _CHANNELS * _TAPS**2),
    "fc6.bias": (_FILTERS,),
    "fc7.weight": (_FILTERS, _FILTERS),
    "fc7.bias": (_FILTERS,),
}


def is_classification_head(shapes: Mapping[str, torch.Size]) -> bool:
    """Whether fc6 and fc7 are the matrices of VGG-16 for ImageNet."""
    return all(shapes.get(key) == shape for key, shape in HEAD_KEYS.items())


def convolutions(
    head: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], seed: int
) -> dict[str, torch.Tensor]:
    """fc6 and fc7 of every branch of a net, in its shapes.

    The branches of ASPP get different filters as long as there are some: the i-th takes the i-th
    quarter of one random order, so that together they keep all 4,096. Values are not scaled up for
    the taps and inputs that are left out.

    Args:
        head: `fc6.weight` (4096, 25088), `fc6.bias`, `fc7.weight` (4096, 4096), `fc7.bias`.
        own: tensors of the net by key; only shapes matter.
        seed: of the random order.

    Returns:
        By the net's keys; none for a layer whose shape cannot be made from these.
    """
    fc6 = head["fc6.weight"].reshape(_FILTERS, _CHANNELS, _TAPS, _TAPS)
    order = torch.randperm(_FILTERS, generator=torch.Generator().manual_seed(seed))
    result = {}
    branches = [match[1] or "" for match in map(_FC6.fullmatch, own) if match]
    for i, branch in enumerate(branches):
        shape = own[f"fc6{branch}.weight"].shape
        if len(shape) != 4 or shape[2] not in _EVERY:
            continue
        count, every = min(shape[0], _FILTERS), _EVERY[shape[2]]
        chosen: torch.Tensor | slice = slice(None)
        if count < _FILTERS:
            chosen = order[torch.arange(i * count, (i + 1) * count) % _FILTERS].sort().values
        result[f"fc6{branch}.weight"] = fc6[chosen][:, :, ::every, ::every]
        result[f"fc6{branch}.bias"] = head["fc6.bias"][chosen]
        result[f"fc7{branch}.weight"] = head["fc7.weight"][chosen][:, chosen, None, None]
        result[f"fc7{branch}.bias"] = head["fc7.bias"][chosen]
    return result
