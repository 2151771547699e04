"""What the layer `DenseCRF` says of wrong input."""

import math

import pytest
import torch

from deeplab_native import CRFParams
from deeplab_native.layers import DenseCRF
from python_tests.layers.crf_cases import PARAMS, inputs, layer


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"params": "voc"}, TypeError, "params: expected CRFParams, got str"),
        (
            {"params": CRFParams(torch.tensor(3.0), 9, 25, 2, 2)},
            TypeError,
            "params.w1: expected a number to start from, got a tensor",
        ),
        ({"params": CRFParams(-1, 9, 25, 2, 2)}, ValueError, "params.w1: expected 0 or more"),
        ({"params": CRFParams(1, 9, 25, 0, 2)}, ValueError, "params.w2: .*more than 0.*trained"),
        (
            {"scale": 0.5, "trainable": ["w1", "sigma_beta"]},
            ValueError,
            "scale: expected 1 where sigma_beta is trained, got 0.5",
        ),
        ({"trainable": ["w3"]}, ValueError, "trainable: expected names of w1, .*; got 'w3'"),
        ({"trainable": "w1"}, TypeError, "trainable: expected a sequence of names, got 'w1'"),
        (
            {"trainable": ["compatibility"]},
            ValueError,
            r"got 'compatibility' \(compatibility='matrix' has one\)",
        ),
        ({"compatibility": "full"}, ValueError, "compatibility: expected one of potts, .*'full'"),
        ({"compatibility": "matrix"}, ValueError, "num_labels: expected how many labels"),
        ({"num_labels": 0}, ValueError, "num_labels: expected at least 1"),
        ({"num_labels": 2.5}, TypeError, "num_labels: expected an integer"),
        ({"iterations": -1}, ValueError, "iterations: expected 0 or more"),
        ({"eval_iterations": 1.5}, TypeError, "eval_iterations: expected an integer"),
        ({"normalization": "both"}, ValueError, "normalization: expected one of"),
        ({"scale": 2}, ValueError, "scale: expected more than 0 and at most 1"),
        ({"algorithm": "fft"}, ValueError, "algorithm: expected one of lattice, exact"),
        ({"algorithm": "exact", "scale": 0.5}, ValueError, "scale: expected 1 with .*exact"),
        ({"lattice": "full"}, ValueError, "lattice: expected one of standard, bridged"),
        ({"spacing": -1}, ValueError, "spacing: expected a positive number"),
        ({"image_range": 255}, TypeError, "image_range: expected"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        DenseCRF(**{"params": PARAMS, **arguments})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s, i: (s[:, :3], i), ValueError, r"scores: expected 4 labels.*got 3 of shape"),
        (lambda s, i: (s.argmax(1), i), TypeError, "scores: expected a float dtype.*int64"),
        (lambda s, i: (s.numpy(), i), TypeError, "scores: expected a torch.Tensor"),
        (lambda s, i: (s * math.nan, i), ValueError, "scores: expected finite values or -inf"),
        (lambda s, i: ([*s, s[0] + math.inf], [*i, i[0]]), ValueError, r"scores\[2\]: expected"),
        (lambda s, i: (s, i[..., :4]), ValueError, "image: expected"),
    ],
)
def test_wrong_inputs(change, error, message):
    scores, image, _ = inputs()
    with pytest.raises(error, match=message):
        layer("potts")(*change(scores, image))


def test_parameters_that_are_no_longer_numbers():
    scores, image, _ = inputs()
    crf = layer("potts", trainable=("w1", "sigma_beta"))
    crf.log_sigma_beta.data.fill_(math.nan)
    with pytest.raises(ValueError, match="log_sigma_beta: expected finite values, got nan"):
        crf(scores, image)


@pytest.mark.parametrize("name", ["sigma_alpha", "sigma_beta", "sigma_gamma"])
def test_bandwidths_that_no_lattice_holds(name):
    scores, image, _ = inputs()
    crf = layer("potts", trainable=(name,))
    getattr(crf, f"log_{name}").data.fill_(math.log(1e-7))
    with pytest.raises(ValueError, match=f"params.{name}: .*too small for this image"):
        crf(scores, image)
