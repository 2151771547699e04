"""What `set_output_stride` refuses by name, and what it leaves alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from deeplab_native import set_output_stride
from python_tests.models.stride_cases import STRIDED, FunctionalPools, check_denser, resnet, scores


def test_forward_that_takes_another_way_later():
    class Moody(FunctionalPools):
        extra = False

        def forward(self, x):
            x = functional.max_pool2d(x, 3, 1, 1) if self.extra else x
            return super().forward(x)

    model = set_output_stride(Moody(), 1)
    model.extra = True
    with pytest.raises(RuntimeError, match="call 0 of max_pool is another one than when"):
        model(torch.randn(1, 3, 33, 33))


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.colour = nn.Conv2d(3, 4, 3, 2, padding=1)
            self.depth = nn.Conv2d(1, 4, 5, 2, padding=2)
            self.last = nn.Conv2d(4, 2, 3, 2, padding=1)

        def forward(self, x, depth):
            return self.last(self.colour(x) + self.depth(depth))

    model = Two()
    inputs = torch.randn(1, 3, 65, 65), torch.randn(1, 1, 65, 65)
    expected = scores(model, *inputs)
    with pytest.raises(ValueError, match=r"\(1, 3, 97, 65\) \(give others as `inputs`\)"):
        set_output_stride(model, 1)
    set_output_stride(model, 1, inputs=inputs)
    torch.testing.assert_close(scores(model, *inputs)[..., ::4, ::4], expected)


def test_a_part_and_then_the_whole():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 4, padding=1), nn.AvgPool2d(3, 2, padding=1))
    model = nn.Sequential(backbone, nn.Conv2d(4, 4, 3, padding=1))
    set_output_stride(backbone, 4)
    check_denser(model, 4, 2)
    model = nn.Sequential(set_output_stride(FunctionalPools(), 2), nn.Conv2d(2, 2, 3))
    with pytest.raises(ValueError, match=r"0 \(AtrousFunctionalPools\) was changed by another"):
        set_output_stride(model, 1)


def test_a_rate_that_was_set_in_between_is_not_lost():
    model = set_output_stride(resnet(), 8)
    model[5].conv2.dilation = (6, 6)
    with pytest.raises(ValueError, match=r"dilation of 5\.conv2 was changed to \(6, 6\)"):
        set_output_stride(model, 16)
    assert model[5].conv2.dilation == (6, 6)


def test_the_model_and_the_random_state_are_left_alone():
    model = nn.Sequential(resnet(), nn.Dropout(0.5))
    model[0][2].eval()
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    set_output_stride(model, 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 3, 3, 2, padding=1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.conv(x)
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


class Same(nn.Conv2d):
    """TensorFlow's rule: with stride 2, an even map is padded at one side only."""

    def forward(self, x):
        k, s, d = self.kernel_size[0], self.stride[0], self.dilation[0]
        pads = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n in x.shape[2:]]
        x = functional.pad(
            x, [pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2]
        )
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation)


class Shared(nn.Module):
    """One layer on two strides, as heads of feature pyramids."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 3, 2, padding=1), nn.Conv2d(3, 3, 3, 2, padding=1)
        self.head = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        x = self.one(x)
        return self.head(x), self.head(self.two(x))


class Cropped(nn.Module):
    def forward(self, x):
        return x[:, :, 1:, 1:]


class Indexed(nn.Module):
    def forward(self, x):
        return functional.max_pool2d(x[:, :, ::2, ::2], 3, 1, 1)


FLAT = (nn.Flatten(), nn.Linear(4 * 25 * 17, 3))


@pytest.mark.parametrize(
    ("layers", "asked", "message"),
    [
        ([*STRIDED, nn.ConvTranspose2d(4, 4, 2, 2)], 2, r"2 \(ConvTranspose2d\) is a transposed"),
        ([*STRIDED, nn.AdaptiveAvgPool2d(1)], 2, r"2 \(AdaptiveAvgPool2d\) adaptive_avg_pool2d"),
        (
            [*STRIDED, *FLAT],
            2,
            r"2 \(Flatten\) flatten makes something",
        ),
        ([*STRIDED, nn.Upsample(scale_factor=4)], 2, r"2 \(Upsample\) interpolates by a factor"),
        ([nn.Conv2d(3, 4, 3, 3)], 2, r"0 \(Conv2d\) takes the stride from 1 to 3: 2 cannot"),
        ([Cropped(), nn.Conv2d(3, 2, 3, 2)], 1, r"1 \(Conv2d\) .* unknown since __getitem__ in 0"),
        ([*STRIDED, nn.GroupNorm(2, 4)], 2, r"2 \(GroupNorm\) gives other values"),
        ([*STRIDED, nn.MaxPool2d(3, 1, return_indices=True)], 2, r"2 \(MaxPool2d\)"),
        ([Gate()], 1, r"0 \(Gate\) mean makes something else"),
        ([Same(3, 4, 3, 2), nn.AvgPool2d(2), Same(4, 4, 3, 2)], 1, r"2 \(Same\) gives other"),
        ([Shared()], 2, r"0\.head \(Conv2d\) is used at the strides 2 and 4"),
        ([Indexed()], 1, r"0 \(Indexed\) takes one of 2 pixels by an index"),
        ([nn.Linear(65, 3)], 1, "expected a net of convolutions or pools"),
        ([*STRIDED], 8, "the net's own stride is 4"),
        ([*STRIDED], 0, "output_stride: expected at least 1"),
    ],
)
def test_what_cannot_be_done_is_refused_and_named(layers, asked, message):
    model = nn.Sequential(*copy.deepcopy(layers))
    before = repr(model)
    with pytest.raises(ValueError, match=message):
        set_output_stride(model, asked)
    assert repr(model) == before
    assert "_output_stride_edits" not in vars(model)


def test_wrong_types():
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got str"):
        set_output_stride("resnet101", 8)
    with pytest.raises(TypeError, match=r"output_stride: expected an integer, got 8\.0"):
        set_output_stride(resnet(), 8.0)
    with pytest.raises(TypeError, match="inputs: expected a list or tuple"):
        set_output_stride(resnet(), 8, inputs=torch.zeros(1, 3, 65, 65))
