"""The layers against torch's own convolution and batch normalisation."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from deeplab_native.layers import ASPP, AtrousConv2d, FrozenBatchNorm2d


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding", "rate", "bias"),
    [(3, 1, 12, 12, True), (3, 2, 1, 1, False), ((1, 3), (2, 1), (0, 2), (1, 2), True)],
)
def test_atrous_conv_is_conv2d_with_dilation(kernel_size, stride, padding, rate, bias):
    torch.manual_seed(0)
    layer = AtrousConv2d(5, 7, kernel_size, stride, padding, rate, bias)
    reference = nn.Conv2d(5, 7, kernel_size, stride, padding, rate, bias=bias)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 17, 19)
    torch.testing.assert_close(layer(x), reference(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kernel_size", "rate", "expected"),
    [
        (1, 1, (0, 0)),
        (3, 12, (12, 12)),
        (4, 4, (6, 6)),
        (4, 8, (12, 12)),
        (7, 4, (12, 12)),
        ((1, 3), 2, (0, 2)),
    ],
)
def test_same_padding_keeps_the_size(kernel_size, rate, expected):
    layer = AtrousConv2d(2, 3, kernel_size, padding="same", rate=rate)
    assert layer.padding == expected
    x = torch.randn(1, 2, 41, 30)
    vertical, horizontal = expected
    padded = functional.pad(x, (horizontal, horizontal, vertical, vertical))
    reference = functional.conv2d(padded, layer.weight, layer.bias, dilation=rate)
    assert reference.shape == (1, 3, 41, 30)
    torch.testing.assert_close(layer(x), reference, atol=1e-5, rtol=1e-5)


def test_initialisation_is_that_of_conv2d():
    torch.manual_seed(0)
    layer = AtrousConv2d(16, 32, 3)
    bound = (16 * 9) ** -0.5
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= bound
        assert parameter.abs().max() > 0.8 * bound


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 4, "padding": "same", "rate": 3}, ValueError, "even rate"),
        ({"kernel_size": 3, "padding": "valid"}, ValueError, "\"same\", got 'valid'"),
        ({"kernel_size": 0}, ValueError, "kernel_size: expected at least 1"),
        ({"kernel_size": 3, "rate": 0}, ValueError, "rate: expected at least 1"),
        ({"kernel_size": 3, "padding": 1.5}, TypeError, "padding: expected an integer or two"),
        ({"kernel_size": 3, "algorithm": "fft"}, ValueError, "algorithm: expected one of .*'fft'"),
        (
            {"kernel_size": 3, "stride": 2, "algorithm": "space_to_batch"},
            ValueError,
            "stride: algorithm 'space_to_batch' needs 1",
        ),
        ({"kernel_size": 3, "in_channels": 2.5}, TypeError, "in_channels: expected an integer"),
        ({"kernel_size": 3, "out_channels": 0}, ValueError, "out_channels: expected at least 1"),
    ],
)
def test_atrous_conv_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        AtrousConv2d(**{"in_channels": 2, "out_channels": 3, **arguments})


def test_arguments_may_be_integers_of_numpy():
    layer = AtrousConv2d(np.int64(2), np.int32(3), np.uint8(3), padding="same", rate=np.int64(2))
    assert repr(layer) == repr(AtrousConv2d(2, 3, 3, padding="same", rate=2))
    assert layer(torch.randn(1, 2, 9, 8)).shape == (1, 3, 9, 8)


def test_repr_names_the_rate():
    text = repr(AtrousConv2d(512, 1024, 3, padding="same", rate=12, bias=False))
    assert "512, 1024, kernel_size=(3, 3)" in text
    assert "rate=(12, 12)" in text
    assert "bias=False" in text


def test_aspp_is_the_sum_of_atrous_convolutions():
    torch.manual_seed(0)
    rates = (6, 12, 18, 24)
    aspp = ASPP(8, 5, rates)
    x = torch.randn(2, 8, 21, 33)
    expected = sum(
        functional.conv2d(x, branch.weight, branch.bias, padding=rate, dilation=rate)
        for branch, rate in zip(aspp.branches(), rates, strict=True)
    )
    torch.testing.assert_close(aspp(x), expected, atol=1e-5, rtol=1e-5)
    assert list(aspp.state_dict()) == [f"c{i}.{p}" for i in range(4) for p in ("weight", "bias")]


def test_aspp_initialisation():
    torch.manual_seed(0)
    for branch in ASPP(64, 21).branches():
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not branch.bias.any()


def test_aspp_needs_a_rate():
    with pytest.raises(ValueError, match="rates: expected at least one"):
        ASPP(8, 5, ())


def test_frozen_batch_norm_ignores_training_mode():
    torch.manual_seed(0)
    reference = nn.BatchNorm2d(6).eval()
    layer = FrozenBatchNorm2d(6)
    for name in ("weight", "bias", "running_mean", "running_var"):
        values = torch.rand(6) + 0.5
        getattr(reference, name).data.copy_(values)
        getattr(layer, name).data.copy_(values)
    x = torch.randn(2, 6, 5, 4)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    torch.testing.assert_close(layer.train()(x), reference(x))
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())
    assert not any(p.requires_grad for p in layer.parameters())
