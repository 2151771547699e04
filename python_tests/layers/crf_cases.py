"""What the tests of the layer `DenseCRF` work on."""

import torch

from deeplab_native import CRFParams
from deeplab_native.layers import DenseCRF

LABELS = 4
PARAMS = CRFParams(3, 9, 25, 2, 2)
SETTINGS = ("potts", "vector", "matrix")
FIVE = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma")
ALL = {"potts": FIVE, "vector": FIVE, "matrix": (*FIVE, "compatibility")}


def inputs(device="cpu", dtype=torch.float32):
    """Scores (2, L, 8, 10), a photo of two colours with noise, labels with some void."""
    random = torch.Generator().manual_seed(3)
    scores = torch.randn(2, LABELS, 8, 10, generator=random, dtype=torch.float64)
    image = 60 * torch.rand(2, 3, 8, 10, generator=random, dtype=torch.float64)
    image[..., 5:] += 120
    labels = torch.randint(0, 2, (2, 8, 10), generator=random)
    labels[..., 5:] = 3
    labels[:, 0] = 255
    return scores.to(device, dtype), image.to(device, dtype), labels.to(device)


def layer(setting, device="cpu", **arguments):
    return DenseCRF(PARAMS, compatibility=setting, num_labels=LABELS, device=device, **arguments)
