"""CRFParams: what it accepts, and the published values."""

import inspect

import pytest
import torch

import deeplab_native as dn
from deeplab_native import jobs


@pytest.mark.parametrize("name", ["sigma_alpha", "sigma_beta", "sigma_gamma"])
@pytest.mark.parametrize("value", [0, -1.0, 1e-300, float("nan"), float("inf")])
def test_sigmas_are_positive(name, value):
    values = {"w1": 4, "sigma_alpha": 67, "sigma_beta": 3, "w2": 3, "sigma_gamma": 1, name: value}
    with pytest.raises(ValueError, match=f"{name}: expected a positive number"):
        dn.CRFParams(**values)


def test_weights_are_finite_numbers():
    with pytest.raises(ValueError, match="w1: expected a finite number, got nan"):
        dn.CRFParams(float("nan"), 67, 3, 3, 1)
    with pytest.raises(TypeError, match="w2: expected a number, got str"):
        dn.CRFParams(4, 67, 3, "3", 1)
    with pytest.raises(
        ValueError, match=r"w1: .* 0-dimensional .* got torch.float32 of shape \(2, 2, 2\)"
    ):
        dn.CRFParams(torch.ones(2, 2, 2), 67, 3, 3, 1)


def test_the_defaults_are_the_authors_of_resnet101():
    """Of their project page; `refine`, the jobs and the commands have the same."""
    assert dn.CRFParams() == dn.CRFParams(4, 67, 3, 3, 1) == dn.CRFParams.preset("voc-resnet101")
    assert dn.CRFParams(w1=5) == dn.CRFParams(5, 67, 3, 3, 1)
    assert jobs.CRFSettings().params == dn.CRFParams()
    assert inspect.signature(dn.refine).parameters["params"].default == "voc-resnet101"


def test_presets():
    assert dn.CRFParams.preset("voc-resnet101") == dn.CRFParams(4, 67, 3, 3, 1)
    with pytest.raises(ValueError, match=r"preset: expected one of .* did you mean 'voc-vgg16'"):
        dn.CRFParams.preset("voc-vgg")
