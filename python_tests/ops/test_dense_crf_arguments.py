"""What dense_crf refuses: each argument by its name, before anything is computed."""

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native.crf import PRESETS

U, IMAGE = torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
PARAMS = PRESETS["voc-resnet101"]


@pytest.mark.parametrize(
    ("unary", "image", "error", "message"),
    [
        (U.numpy(), IMAGE, TypeError, "unary: expected a torch.Tensor, got ndarray"),
        (U[0, 0], IMAGE, ValueError, r"unary: expected 4 or 5 dimensions \(B, L, H, W\)"),
        (U.long(), IMAGE, TypeError, "unary: expected dtype"),
        (U.repeat(2, 1, 1, 1), IMAGE[0], ValueError, "image: expected 4 dimensions .B, C, H, W"),
        (U, IMAGE[:, :0], ValueError, "image: expected 1 to 62 channels of an image, got 0"),
        (
            U,
            IMAGE.transpose(2, 3),
            ValueError,
            r"image: expected shape \(1, C, 4, 5\) .* \(1, 3, 5, 4\)",
        ),
        (U, IMAGE.int(), TypeError, "image: expected dtype torch.uint8"),
        (U, IMAGE + torch.nan, ValueError, "image: expected finite values 0..255, got NaN"),
        (U / 0, IMAGE, ValueError, "unary: expected finite energies"),
        (U.to("meta"), IMAGE, ValueError, "one device, got unary on meta, image on cpu"),
    ],
)
def test_bad_input(unary, image, error, message):
    with pytest.raises(error, match=message):
        dn.dense_crf(unary, image, PARAMS)


def test_bad_options():
    with pytest.raises(TypeError, match="params: expected CRFParams, got tuple"):
        dn.dense_crf(U, IMAGE, (4, 67, 3, 3, 1))
    with pytest.raises(ValueError, match="normalization: expected one of none, before"):
        dn.dense_crf(U, IMAGE, PARAMS, normalization="both")
    with pytest.raises(ValueError, match="iterations: expected 0 or more, got -1"):
        dn.dense_crf(U, IMAGE, PARAMS, iterations=-1)
    with pytest.raises(ValueError, match=r"image / \(sigma_alpha, sigma_beta\): .* larger sigmas"):
        dn.dense_crf(U, IMAGE + 200, dn.CRFParams(4, 67, 1e-5, 3, 1))
    with pytest.raises(ValueError, match=r"pixels / sigma_gamma: .* larger sigmas"):
        dn.dense_crf(U, IMAGE, dn.CRFParams(4, 67, 3, 3, 1e-20))
    with pytest.raises(ValueError, match=r"params.w1: expected finite numbers"):
        dn.dense_crf(U, IMAGE, dn.CRFParams(torch.tensor(torch.nan), 67, 3, 3, 1))
    assert torch.equal(
        dn.dense_crf(U, IMAGE, PARAMS, iterations=np.int64(3)),
        dn.dense_crf(U, IMAGE, PARAMS, iterations=3),
    )
