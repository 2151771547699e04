"""Other projects' dense CRFs as functions of (energies, image, parameters), for crf_accuracy.py.

Each gives marginals (L, H, W) of what it calls ten iterations with our parameters: pydensecrf's
lattice, ConvCRF's window instead of the whole image, MONAI's lattice with rows of K that sum to 1.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from deeplab_native import CRFParams

Crf = Callable[[torch.Tensor, torch.Tensor, CRFParams], torch.Tensor]
"""(1, L, H, W) energies and (1, 3, H, W) uint8 -> (L, H, W)."""


def pydensecrf(iterations: int) -> Crf:
    """Of the folder in PYTHONPATH; ImportError where there is none."""
    from pydensecrf.densecrf import DenseCRF2D

    def crf(unary: torch.Tensor, image: torch.Tensor, params: CRFParams) -> torch.Tensor:
        _, labels, height, width = unary.shape
        field = DenseCRF2D(width, height, labels)
        field.setUnaryEnergy(np.ascontiguousarray(unary[0].reshape(labels, -1).numpy()))
        pixels = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        # the order in which deeplab_native adds its kernels
        field.addPairwiseGaussian(sxy=params.sigma_gamma, compat=params.w2)
        field.addPairwiseBilateral(
            sxy=params.sigma_alpha, srgb=params.sigma_beta, rgbim=pixels, compat=params.w1
        )
        q = np.array(field.inference(iterations))
        return torch.from_numpy(q).view(labels, height, width)

    return crf


def convcrf(folder: Path, iterations: int, blur: int) -> Crf:
    """Of a clone; its window is that of its defaults, 11 x 11 (of averages of blur x blur)."""
    with _first_on_the_path(folder):
        from convcrf import convcrf as module

    def crf(unary: torch.Tensor, image: torch.Tensor, params: CRFParams) -> torch.Tensor:
        conf = module.get_default_conf()
        conf |= {"blur": blur, "norm": "sym", "merge": False, "weight": None}
        conf |= {"final_softmax": True}
        conf["pos_feats"] = {"sdims": params.sigma_gamma, "compat": params.w2}
        conf["col_feats"] = {
            "sdims": params.sigma_alpha,
            "schan": params.sigma_beta,
            "compat": params.w1,
            "use_bias": True,
        }
        size = tuple(image.shape[2:])
        net = module.GaussCRF(conf, size, unary.shape[1], use_gpu=False)
        return net(-unary, image.float(), num_iter=iterations)[0].detach()

    return crf


def monai(folder: Path, iterations: int) -> Crf:
    """Of a clone with its C++ extension built in place; normalises rows ("after")."""
    with _first_on_the_path(folder):
        from monai.networks.blocks import CRF

    def crf(unary: torch.Tensor, image: torch.Tensor, params: CRFParams) -> torch.Tensor:
        net = CRF(
            iterations=iterations,
            bilateral_weight=params.w1,
            gaussian_weight=params.w2,
            bilateral_spatial_sigma=params.sigma_alpha,
            bilateral_color_sigma=params.sigma_beta,
            gaussian_spatial_sigma=params.sigma_gamma,
            update_factor=1.0,
        )
        return net(-unary, image.float())[0]

    return crf


@contextlib.contextmanager
def _first_on_the_path(folder: Path):
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
