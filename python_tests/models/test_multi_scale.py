"""Multi-scale inputs: sizes, fusion, what the net keeps of them."""

import numpy as np
import pytest
import torch
from torch import nn

from deeplab_native import weights
from deeplab_native.models import create_model, list_models, predict
from deeplab_native.models.multi_scale import PAPER_SCALES, scaled_size
from python_tests.models.reference_nets import interpolate
from python_tests.models.small_net import SmallNet


@pytest.fixture
def net():
    return SmallNet(scales=PAPER_SCALES)


@pytest.mark.parametrize("size", [(321, 513), (97, 65), (70, 94), (9, 1), (2, 3)])
def test_one_pass_a_scale_in_the_authors_sizes(net, size):
    scores = net(torch.randn(3, 3, *size))
    three_quarters = tuple((n - 1) // 4 * 3 + 1 for n in size)
    half = tuple((n - 1) // 2 + 1 for n in size)
    assert net.sizes == [(3, 3, *s) for s in (size, three_quarters, half)]
    assert scores.shape == net.score_map(torch.randn(3, 3, *size)).shape


@pytest.mark.parametrize(
    ("pixels", "scale", "expected"),
    [
        *[(321, 0.75, 241), (321, 0.5, 161), (513, 0.75, 385), (513, 1.25, 641), (320, 0.5, 160)],
        *[(322, 0.75, 241), (320, 0.75, 238), (41, 2.0, 81), (7, 1 / 3, 3), (1, 0.5, 1)],
    ],
)
def test_scaled_size(pixels, scale, expected):
    """Interp's shrink by q keeps (n - 1) // q + 1, and its zoom by p makes n + (n - 1)(p - 1)."""
    assert scaled_size(pixels, scale) == expected


def test_half_the_size_is_every_second_pixel():
    seen = []

    class Watching(SmallNet):
        def score_map(self, x):
            seen.append(x)
            return super().score_map(x)

    x = torch.randn(1, 3, 65, 33)
    Watching(scales=(0.5, 1))(x)
    torch.testing.assert_close(seen[0], x[:, :, ::2, ::2], atol=1e-5, rtol=1e-5)
    assert torch.equal(seen[1], x)


def test_other_scales(net):
    """1/3 keeps its own map, with labels at every 24th pixel; 3/2 is shrunk to scale 1's."""
    net.scales = (1.5, 1.0, 1 / 3)
    x = torch.randn(1, 3, 49, 73)
    result = net.multi_scale(x)
    assert result.strides == (8, 8, 24)
    large = net.score_map(interpolate(x, (73, 109)))
    small = net.score_map(interpolate(x, (17, 25)))
    expected = [interpolate(large, (7, 10)), net.score_map(x), small]
    for ours, branch in zip(result.branches, expected, strict=True):
        torch.testing.assert_close(ours, branch, atol=1e-4, rtol=1e-4)
    fused = torch.stack([expected[0], expected[1], interpolate(small, (7, 10))]).amax(0)
    torch.testing.assert_close(result.fused, fused, atol=1e-4, rtol=1e-4)


def test_scales_become_their_fractions(net):
    net.scales = [0.99999999, 0.3333333333]
    assert net.scales == (1.0, 1 / 3)
    assert net(torch.randn(1, 3, 17, 17)).shape == (1, 4, 3, 3)


def test_a_single_scale_is_the_net_itself():
    net = SmallNet()
    x = torch.randn(1, 3, 33, 41)
    result = net.multi_scale(x)
    assert net.scales == (1.0,)
    assert torch.equal(net(x), net.score_map(x))
    assert torch.equal(result.fused, net(x))
    assert [torch.equal(b, net(x)) for b in result.branches] == [True]


def test_scales_are_no_part_of_the_weights(tmp_path):
    path = tmp_path / "net.safetensors"
    multi = create_model("deeplab_mobilenetv2_largefov", 3, seed=0, scales=PAPER_SCALES).eval()
    weights.save(multi, path)
    single = create_model("deeplab_mobilenetv2_largefov", 3, weights=path).eval()
    assert (multi.scales, single.scales) == (PAPER_SCALES, (1.0,))
    assert list(single.state_dict()) == list(multi.state_dict())
    x = torch.rand(1, 3, 33, 33)
    with torch.no_grad():
        expected = multi(x)
        assert not torch.equal(single(x), expected)
        single.scales = PAPER_SCALES
        assert torch.equal(single(x), expected)
    assert "scales=(1.0, 0.75, 0.5)" in repr(multi)
    assert "scales" not in repr(create_model("deeplab_mobilenetv2_largefov"))


@pytest.mark.parametrize(
    ("scales", "error", "message"),
    [
        ("0.5", TypeError, "expected numbers like"),
        (0.5, TypeError, "expected numbers like"),
        ((1.0, "0.5"), TypeError, "expected numbers, got '0.5'"),
        ((1.0, True), TypeError, "expected numbers, got True"),
        ((1.0, 0.0), ValueError, "fractions p / q.*got 0.0"),
        ((1.0, -0.5), ValueError, "fractions p / q"),
        ((1.0, float("nan")), ValueError, "fractions p / q"),
        ((1.0, 1e30), ValueError, "fractions p / q up to 16"),
        ((1.0, 0.51), ValueError, "fractions p / q up to 16 with q up to 16, got 0.51"),
        ((1.0, 0.5, 0.5), ValueError, "each one once"),
        ((0.75, 0.5), ValueError, r"expected 1.0 among them.*got \(0.75, 0.5\)"),
        ((), ValueError, "expected 1.0 among them"),
    ],
)
def test_scales_say_what_is_wrong(net, scales, error, message):
    with pytest.raises(error, match=f"scales: .*{message}"):
        net.scales = scales
    assert net.scales == PAPER_SCALES
    with pytest.raises(error, match="scales: "):
        create_model(list_models()[0].name, scales=scales)


@pytest.mark.parametrize(
    ("x", "error"),
    [(torch.zeros(3, 9, 9), ValueError), (torch.zeros(1, 3, 0, 9), ValueError), ([], TypeError)],
)
def test_inputs_say_what_is_wrong(net, x, error):
    with pytest.raises(error, match="input: expected"):
        net(x)
    assert net.sizes == []


def test_predict_uses_all_scales(net):
    image = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)
    result = predict(net, image)
    padded = nn.functional.pad(
        net.preprocessing(torch.tensor(image).permute(2, 0, 1)[None]), (0, 4, 0, 1)
    )
    with torch.no_grad():
        expected = interpolate(net(padded), (41, 65))[0, :, :40, :61]
    torch.testing.assert_close(result.scores, expected, atol=1e-3, rtol=1e-3)
    assert (result.scores - predict(SmallNet(), image).scores).abs().max() > 1
