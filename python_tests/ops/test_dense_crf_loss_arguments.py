"""What the dense CRF loss says of wrong arguments, and of images that fit no sigma."""

import pytest
import torch

from deeplab_native.ops.dense_crf_loss import dense_crf_loss

IMAGE, MAP = torch.zeros(2, 3, 6, 8, dtype=torch.uint8), torch.full((2, 4, 6, 8), 0.25)
SPACE = MAP[:, 0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": [1.0]}, TypeError, "image: expected a torch.Tensor, got list"),
        ({"image": IMAGE[0]}, ValueError, r"image: expected shape \(2, C, 6, 8\) for prob"),
        ({"image": IMAGE[:1]}, ValueError, r"image: expected shape \(2, C, 6, 8\)"),
        ({"image": IMAGE[..., 1:]}, ValueError, r"image: expected shape \(2, C, 6, 8\)"),
        ({"image": IMAGE.permute(0, 2, 3, 1)}, ValueError, "image: .* whose channels are last"),
        ({"image": IMAGE[:, :0]}, ValueError, "image: expected 1 to 62 channels"),
        ({"image": IMAGE.int()}, TypeError, "image: expected dtype .* that sigma_rgb is in its"),
        ({"image": IMAGE.float().requires_grad_()}, ValueError, "image: no gradient"),
        ({"image": IMAGE.float() + torch.nan}, ValueError, "image: expected finite values"),
        ({"image": IMAGE.float() + 1e9 * torch.arange(8)}, ValueError, "image / .* too large"),
        ({"probabilities": None}, TypeError, "probabilities: expected a torch.Tensor"),
        ({"probabilities": MAP[0]}, ValueError, "probabilities: expected 4 or 5 dimensions"),
        ({"probabilities": MAP.long()}, TypeError, "probabilities: expected dtype torch.float32"),
        ({"probabilities": MAP[:, :0]}, ValueError, "probabilities: expected at least one label"),
        ({"roi": 1}, TypeError, "roi: expected a torch.Tensor"),
        ({"roi": SPACE[:, 1:]}, ValueError, r"roi: expected shape \(2, 6, 8\) for prob"),
        ({"roi": SPACE.cfloat()}, TypeError, "roi: expected real values"),
        ({"labels": SPACE}, TypeError, "labels: expected integers, got torch.float32"),
        ({"labels": SPACE[:1].long()}, ValueError, r"labels: expected shape \(2, 6, 8\)"),
        ({"sigma_rgb": 0}, ValueError, "sigma_rgb: expected a positive number, got 0"),
        ({"sigma_rgb": (1, 2)}, ValueError, "sigma_rgb: .* each of the 3 channels"),
        ({"sigma_xy": "5"}, TypeError, "sigma_xy: expected a number, got str"),
        ({"sigma_xy": (1, 2, 3)}, ValueError, r"sigma_xy: .* each of the 2 axes \(y, x\)"),
        ({"sigma_xy": (1, float("nan"))}, ValueError, r"sigma_xy\[1\]: expected a positive .* nan"),
        ({"sigma_xy": torch.tensor(5.0)}, TypeError, "sigma_xy: expected .* got a tensor"),
        ({"scale_factor": 1.5}, ValueError, "scale_factor: expected more than 0 and at most 1"),
        ({"scale_factor": None}, TypeError, "scale_factor: expected a number, got NoneType"),
        ({"scale_factor": 0.1}, ValueError, r"scale_factor: .* leaves a pixel of \(6, 8\)"),
        ({"constant": 1}, TypeError, "constant: expected True or False, got 1"),
        ({"normalized_cut": None}, TypeError, "normalized_cut: expected True or False"),
        ({"normalized_cut": True, "constant": False}, ValueError, "constant: expected True with"),
        ({"normalized_cut": True, "labels": SPACE.long()}, ValueError, "labels: expected None"),
        ({"reduction": "max"}, ValueError, "reduction: expected one of mean, sum, none; got 'max'"),
        ({"image_range": (1, 0)}, ValueError, "image_range: expected low below high"),
        ({"image_range": [(0, 1)] * 2}, ValueError, "image_range: .* or 3 such pairs"),
    ],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        dense_crf_loss(**{"image": IMAGE, "probabilities": MAP} | change)


def test_an_image_of_0_to_1_is_warned_of(said):
    dense_crf_loss(torch.rand(2, 3, 6, 8), MAP)
    (warning,) = said
    assert "but sigma_rgb=15 is in levels of 0..255" in str(warning.message)
    assert "image_range=(0, 1)" in str(warning.message)
    dense_crf_loss(torch.rand(2, 3, 6, 8), MAP, image_range=(0, 1))
    assert len(said) == 1
