"""The training losses against their definition, pixel by pixel."""

import numpy as np
import pytest
import torch
from torch import nn

from deeplab_native.models import MultiScaleScores, label_shrink, score_map_loss
from deeplab_native.models.multi_scale import PAPER_SCALES
from python_tests.models.reference_nets import interpolate
from python_tests.models.small_net import SmallNet

VOID = 255


@pytest.fixture
def net():
    return SmallNet(scales=PAPER_SCALES)


def random_labels(*shape, classes=4):
    labels = torch.randint(0, classes, shape)
    labels[torch.rand(shape) < 0.2] = VOID
    return labels


def cross_entropy(scores, labels, void=VOID):
    """Mean of -log softmax at the label over the pixels that are not void, one by one."""
    total, valid = 0.0, 0
    for b, y, x in np.ndindex(*labels.shape):
        if labels[b, y, x] != void:
            pixel = scores[b, :, y, x].double()
            total = total + pixel.logsumexp(0) - pixel[labels[b, y, x]]
            valid += 1
    return total / max(valid, 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_are_picked_not_mixed(dtype):
    labels = (torch.arange(2 * 17 * 33) % 251).reshape(2, 17, 33).to(dtype)
    shrunk = label_shrink(labels, 8, (3, 5))
    assert shrunk.dtype == torch.int64
    for b, y, x in np.ndindex(2, 3, 5):
        assert shrunk[b, y, x] == labels[b, 8 * y, 8 * x]
    # a map that was rounded up has pixels outside of the image
    assert torch.equal(label_shrink(labels[:, :16, :24], 8, (3, 4))[:, :2, :3], shrunk[:, :2, :3])
    assert (label_shrink(labels[:, :16, :24], 8, (3, 4), void=7)[:, 2] == 7).all()


@pytest.mark.parametrize(
    ("stride", "size", "error", "message"),
    [
        (0, (3, 3), ValueError, "stride: expected at least 1"),
        (8.0, (3, 3), TypeError, "stride: expected an integer"),
        (8, (3, 3, 3), TypeError, "size: expected an integer or two"),
        (8, (2, 3), ValueError, r"labels: shape \(1, 17, 17\) gives \(3, 3\) labels at stride 8"),
        (8, (3, 5), ValueError, r"no score map of \(3, 5\)"),
    ],
)
def test_label_shrink_says_what_is_wrong(stride, size, error, message):
    with pytest.raises(error, match=message):
        label_shrink(torch.zeros(1, 17, 17, dtype=torch.uint8), stride, size)


@pytest.mark.parametrize("size", [(65, 97), (70, 94), (33, 33)])
def test_four_losses(net, size):
    """Fused, 1, and 0.75 at the size of 1 against every 8th label; 0.5 against every 16th."""
    labels, x = random_labels(2, *size), torch.randn(2, 3, *size)
    h, w = net.score_map(x).shape[2:]
    padded = torch.full((2, 16 * h, 16 * w), VOID)
    padded[:, : size[0], : size[1]] = labels
    eighth, sixteenth = padded[:, ::8, ::8][:, :h, :w], padded[:, ::16, ::16]
    half = net.score_map(interpolate(x, [(n - 1) // 2 + 1 for n in size]))
    whole = net.score_map(x)
    three_quarters = interpolate(
        net.score_map(interpolate(x, [(n - 1) // 4 * 3 + 1 for n in size])), (h, w)
    )
    fused = torch.stack([whole, three_quarters, interpolate(half, (h, w))]).amax(0)
    expected = cross_entropy(half, sixteenth[:, : half.shape[2], : half.shape[3]])
    for branch in (fused, whole, three_quarters):
        expected = expected + cross_entropy(branch, eighth)

    loss = score_map_loss(net.multi_scale(x), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for dtype in (torch.uint8, torch.int32):
        assert score_map_loss(net.multi_scale(x), labels.to(dtype)) == loss


def test_a_single_scale_has_one_loss():
    """Its branch is the fused map: not counted twice."""
    net, x, labels = SmallNet(), torch.randn(1, 3, 33, 41), random_labels(1, 33, 41)
    expected = cross_entropy(net(x), labels[:, ::8, ::8]).item()
    for scores in (net.multi_scale(x), net(x)):
        assert score_map_loss(scores, labels).item() == pytest.approx(expected, rel=1e-5)


def test_loss_is_divided_by_the_pixels_of_the_whole_batch():
    scores, labels = torch.randn(2, 4, 3, 3), torch.full((2, 17, 17), VOID)
    labels[0, 0, 0], labels[1, 8, :] = 1, 2
    picked = labels[:, ::8, ::8]
    assert score_map_loss(scores, labels).item() == pytest.approx(
        cross_entropy(scores, picked).item(), rel=1e-6
    )


def test_loss_without_a_pixel_is_0():
    scores = torch.randn(1, 4, 3, 3, requires_grad=True)
    loss = score_map_loss(scores, torch.full((1, 17, 17), VOID))
    loss.backward()
    assert loss.item() == 0
    assert not scores.grad.any()


def test_another_output_stride():
    scores, labels = torch.randn(1, 4, 5, 5), random_labels(1, 17, 17)
    expected = cross_entropy(scores, labels[:, ::4, ::4]).item()
    loss = score_map_loss(scores, labels, output_stride=4)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_void_may_be_another_label():
    scores, labels = torch.randn(1, 4, 3, 3), torch.zeros(1, 17, 17, dtype=torch.int64)
    labels[:, 0] = -1
    expected = cross_entropy(scores, labels[:, ::8, ::8], void=-1).item()
    assert score_map_loss(scores, labels, void=-1).item() == pytest.approx(expected, rel=1e-6)


def test_loss_of_half_precision_is_float32():
    scores, labels = torch.randn(1, 4, 9, 9), random_labels(1, 65, 65)
    expected = score_map_loss(scores, labels)
    loss = score_map_loss(scores.bfloat16(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=0.02, rtol=0)
    assert score_map_loss(scores.double(), labels).dtype == torch.float64


def test_gradients_of_the_losses():
    """By finite differences, through interpolation, the maximum and the sub-sampled labels."""
    net = SmallNet(num_classes=2, scales=PAPER_SCALES).double()
    x = torch.randn(1, 3, 17, 17, dtype=torch.float64)
    labels = random_labels(1, 17, 17, classes=2)
    labels[0, 0, 0] = 1

    def loss(weight, bias):
        parameters = dict(net.named_parameters()) | {"fc.weight": weight, "fc.bias": bias}

        class Losses(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, x):
                return score_map_loss(self.net.multi_scale(x), labels)

        prefixed = {f"net.{key}": value for key, value in parameters.items()}
        return torch.func.functional_call(Losses(), prefixed, (x,))

    arguments = [p.detach().clone().requires_grad_() for p in (net.fc.weight, net.fc.bias)]
    assert torch.autograd.gradcheck(loss, arguments)
    score_map_loss(net.multi_scale(x), labels).backward()
    assert all(p.grad.any() and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("scores", "labels", "error", "message"),
    [
        (torch.zeros(4, 3, 3), torch.zeros(1, 17, 17).long(), ValueError, "scores: expected 4 dim"),
        (torch.zeros(1, 4, 3, 3).long(), torch.zeros(1, 17, 17).long(), TypeError, "scores: .*flo"),
        (torch.zeros(1, 4, 3, 3), torch.zeros(1, 17, 17), TypeError, "labels: expected dtype"),
        (torch.zeros(1, 4, 3, 3), torch.zeros(17, 17).long(), ValueError, "labels: expected 3 dim"),
        (torch.zeros(2, 4, 3, 3), torch.zeros(1, 17, 17).long(), ValueError, "labels: .* 2 images"),
        (torch.zeros(1, 4, 3, 3), torch.zeros(1, 3, 3).long(), ValueError, r"labels: .*\(3, 3\)"),
        (torch.zeros(1, 4, 3, 3), torch.zeros(1, 25, 17).long(), ValueError, "no score map"),
        (torch.zeros(1, 4, 3, 3), torch.full((1, 17, 17), 4), ValueError, "0 to 3 or void 255.* 4"),
        (torch.zeros(1, 4, 3, 3), torch.full((1, 17, 17), -1), ValueError, "labels: .*got -1"),
    ],
)
def test_loss_says_what_is_wrong(scores, labels, error, message):
    with pytest.raises(error, match=message):
        score_map_loss(scores, labels)
    with pytest.raises(error, match=message):
        score_map_loss(MultiScaleScores(scores, (scores, scores), (8, 8), 8), labels)
