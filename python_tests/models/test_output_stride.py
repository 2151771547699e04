"""`set_output_stride`: the denser map, sampled, is the original one."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

pytest.importorskip("hypothesis")
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deeplab_native import set_output_stride
from deeplab_native.layers import AtrousConv2d
from deeplab_native.models import create_model
from python_tests.models.stride_cases import (
    STRIDED,
    Block,
    FunctionalPools,
    check_denser,
    resnet,
    scores,
)


@pytest.mark.parametrize("asked", [32, 16, 8, 4, 1])
@pytest.mark.parametrize("size", [(65, 97), (64, 71)])
def test_residual_net(asked, size):
    check_denser(resnet(), 32, asked, size)


def test_rates_of_a_residual_net():
    model = set_output_stride(resnet(), 8)
    strided = {n: m.stride for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert {n for n, stride in strided.items() if stride == (2, 2)} == {
        "0",
        "3.conv1",
        "3.shortcut",
    }
    rates = {n: m.dilation[0] for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    # the layer that loses its stride keeps the rate of its input
    assert [rates[f"{i}.conv1"] for i in (2, 3, 4, 5)] == [1, 1, 1, 2]
    assert [rates[f"{i}.conv2"] for i in (2, 3, 4, 5)] == [1, 1, 2, 4]
    assert model[5].conv2.padding == (4, 4)
    assert model[5].shortcut.dilation == (1, 1)  # of one tap


@pytest.mark.parametrize("asked", [8, 4, 2])
@pytest.mark.parametrize("size", [(65, 97), (66, 75)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pools(asked, size, ceil_mode):
    """VGG's form; sizes that its pools round up get the same pixels as well."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(2, ceil_mode=ceil_mode),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=ceil_mode, count_include_pad=False),
        nn.MaxPool2d(2, stride=1, padding=1),
        nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
        nn.AvgPool2d(2, 2, padding=1, ceil_mode=ceil_mode),
        nn.MaxPool2d(3, 1, padding=1, ceil_mode=ceil_mode),
        nn.AvgPool2d(3, 1, padding=1, divisor_override=4),
        nn.Conv2d(4, 3, 3, padding="same", padding_mode="zeros"),
    )
    check_denser(model, 8, asked, size)


@pytest.mark.parametrize("asked", [4, 2])
@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("deeplab_vgg16_largefov", (1.0,)),
        ("deeplab_resnet101_aspp", (1.0,)),
        ("deeplab_mobilenetv2_aspp_s", (1.0, 0.75, 0.5)),
    ],
)
def test_nets_of_ours(name, scales, asked):
    model = create_model(name, 3, seed=0)
    x = 30 * torch.randn(1, 3, 33, 46)
    check_denser(model, 8, asked, x=x)
    model.scales = scales  # the layers that were changed are those of every scale
    assert scores(model, x).shape[2] == 32 // asked + 1
    assert model.output_stride == asked
    set_output_stride(model, 8, inputs=(x,))
    assert model.output_stride == 8
    assert vars(model).get("output_stride", 8) == 8  # of the class, or what the net was made with


def test_aspp_head_of_ours_has_twice_the_rates():
    with torch.device("meta"):
        model = set_output_stride(create_model("deeplab_resnet101_aspp", 3), 4)
    assert model.fc1.rates == (12, 24, 36, 48)
    assert model.res5.block3.branch2b.conv.rate == (8, 8)


def test_vgg_in_its_own_form():
    """From stride 32, as VGG-16 was trained, to 8: the rates of the paper's net come out."""
    layers, channels = [], 3
    for width in (4, 5, 6, 7, 8):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    model = nn.Sequential(*layers, nn.Conv2d(8, 9, 7, padding=3))
    check_denser(model, 32, 8, (97, 129))
    rates = [m.dilation[0] for m in model if isinstance(m, nn.Conv2d)]
    assert rates == [1, 1, 1, 1, 2, 4]  # conv5 and fc6 of section 4.1


class Functional(nn.Module):
    """Pools and convolutions as functions, branches, and a decision in Python."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, padding=1)
        self.branch = nn.Conv2d(4, 4, 3, 2, padding=1)
        self.weight = nn.Parameter(torch.randn(5, 8, 3, 3))
        self.last = nn.Conv2d(5, 2, 3)

    def forward(self, x):
        x = self.first(x).relu_()
        pooled = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        x = torch.cat([pooled, self.branch(x)], 1)
        if x.shape[1] > 4:
            x = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = functional.conv2d(x, self.weight, padding=1, stride=2)
        return self.last(functional.pad(x, (1, 1, 1, 1)))


@pytest.mark.parametrize("asked", [4, 2, 1])
def test_functions_called_in_forward(asked):
    model = Functional()
    expected = check_denser(model, 8, asked)
    assert isinstance(model, Functional)
    x = torch.randn(2, 3, 65, 81)
    expected = scores(model, x)
    assert torch.equal(scores(copy.deepcopy(model), x), expected)
    assert torch.equal(scores(pickle.loads(pickle.dumps(model)), x), expected)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), expected)
    set_output_stride(model, 8)
    assert type(model) is Functional


def test_compiled_functions():
    model = FunctionalPools()
    check_denser(model, 4, 1)
    x = torch.randn(1, 3, 33, 33)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), scores(model, x))


def test_channels_last_order_of_dimensions_and_shuffled_channels():
    """ConvNeXt's linear layers on (B, H, W, C); ShuffleNet's view of channels as groups."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 4, 4)
            self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)
            self.down = nn.Conv2d(8, 8, 2, 2, groups=2)
            self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)

        def forward(self, x):
            x = self.down(self.stem(x))
            x = self.linear(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            b, c, h, w = x.shape
            x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
            return self.depthwise(x)

    check_denser(Mixed(), 8, 4)
    model = set_output_stride(Mixed(), 2)  # a stride of 4 that becomes 2
    assert model.stem.stride == (2, 2)


def test_different_strides_of_rows_and_columns():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, (2, 1), padding=1),
        nn.Conv2d(4, 4, 3, 2, padding=1),
        nn.MaxPool2d(3, (1, 2), padding=1),
        nn.Conv2d(4, 4, 3, padding=1),
    )
    check_denser(model, 4, 2)
    assert model[3].dilation == (2, 2)


def test_strides_and_back_again():
    model, x = resnet(), torch.randn(1, 3, 65, 65)
    maps = {}
    for stride in (32, 8, 16, 4, 8, 32):
        out = scores(set_output_stride(model, stride), x)
        assert torch.equal(maps.setdefault(stride, out), out)
    assert type(model[1]) is nn.MaxPool2d
    with pytest.raises(ValueError, match=r"own stride is 32, .* got 64"):
        set_output_stride(model, 64)


def test_a_single_tap_may_be_shared_between_strides():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = STRIDED[0], nn.Conv2d(4, 4, 3, 2, padding=1)
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x.sub_(0.5)  # on its input in place
            x = self.one(x)
            return self.head(x), self.head(self.two(x))

    model, x = copy.deepcopy(Pyramid()), torch.randn(1, 3, 33, 33)
    expected = model(x.clone())
    before = x.clone()
    dense = set_output_stride(model, 2, inputs=(x,))(x.clone())
    assert torch.equal(x, before)
    torch.testing.assert_close(dense[0], expected[0])
    torch.testing.assert_close(dense[1][:, :, ::2, ::2], expected[1])


def test_gradients_and_double_precision():
    model = set_output_stride(resnet().double(), 8)
    model(torch.randn(1, 3, 33, 33, dtype=torch.float64)).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float64 for p in model.parameters())


def test_on_the_meta_device():
    with torch.device("meta"):
        model = create_model("deeplab_vgg16_largefov")
    set_output_stride(model, 4)
    assert model(torch.empty(1, 3, 65, 65, device="meta")).shape[2:] == (17, 17)


def test_interpolation_to_a_size_gets_a_better_map():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = resnet()

        def forward(self, x):
            size = x.shape[2:]
            return functional.interpolate(self.net(x), size, mode="bilinear", align_corners=True)

    model = set_output_stride(Whole(), 8)
    x = torch.randn(1, 3, 65, 65)
    assert model(x).shape == (1, 5, 65, 65)
    assert model.net(x).shape == (1, 5, 9, 9)


@st.composite
def nets(draw):
    """Sequences of convolutions and pools, some beside a 1 x 1 shortcut; and their stride."""
    layers, stride = [], 1
    for _ in range(draw(st.integers(1, 6))):
        k, s = draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2, 2, 4]))
        kind = draw(st.sampled_from(["conv", "atrous", "block", "max", "avg"]))
        s = 1 if stride * s > 16 else s
        padding, ceil_mode = draw(st.integers(0, k // 2)), draw(st.booleans())
        if kind == "conv":
            layers.append(nn.Conv2d(2, 2, k, s, padding, dilation=draw(st.integers(1, 2))))
        elif kind == "atrous":
            layers.append(AtrousConv2d(2, 2, k, s, padding, rate=draw(st.integers(1, 2))))
        elif kind == "block":
            layers.append(Block(2, 2, s))
        elif kind == "max":
            layers.append(nn.MaxPool2d(k, s, padding, ceil_mode=ceil_mode))
        else:
            layers.append(nn.AvgPool2d(k, s, padding, ceil_mode, draw(st.booleans())))
        stride *= s
    return nn.Sequential(nn.Conv2d(3, 2, 1), *layers), stride


@settings(max_examples=60, deadline=None)
@given(net=nets(), power=st.integers(0, 4), height=st.integers(60, 80))
def test_random_nets(net, power, height):
    model, own = net
    asked = min(2**power, own)
    torch.manual_seed(0)
    x = torch.randn(1, 3, height, 65)
    try:
        scores(model, x)
    except (RuntimeError, ValueError):  # a kernel larger than the map, or no pixel left
        assume(False)
    check_denser(model, own, asked, x=x)
