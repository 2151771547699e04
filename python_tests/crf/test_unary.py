"""What scores and labels mean as energies: recognised, and computed."""

import math

import numpy as np
import pytest
import torch

from deeplab_native.crf import unary as unary_of
from deeplab_native.crf.unary import energies_from, energies_from_labels, kind_of, occurring_labels
from deeplab_native.pydensecrf import utils


@pytest.fixture(scope="module")
def logits():
    generator = torch.Generator().manual_seed(3)
    return 4 * torch.randn(5, 9, 11, generator=generator)


def same_marginals(one, other, dim=0, tolerance=1e-5):
    """Energies up to what is added to all labels of a pixel."""
    return torch.allclose((-one).softmax(dim), (-other).softmax(dim), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_kinds_are_recognised(logits, dtype):
    p = logits.softmax(0)
    kinds = {
        "logits": [logits, p.log(), logits - 20, 0 * logits],  # log-probabilities are logits
        "probabilities": [p, (p == p.amax(0)) * 1.0],
        "energies": [-p.log(), -p.clamp(min=1e-5).log()],
        "sigmoid": [logits.sigmoid(), logits[:1].sigmoid(), logits[:1] > 0],
    }
    for kind, examples in kinds.items():
        for values in examples:
            assert kind_of(values.to(dtype)) == kind
            assert kind_of(values.to(dtype), kind) == kind
    assert kind_of(logits[:1].to(dtype)) == "logits"


def test_a_label_axis_elsewhere(logits):
    batch = torch.stack([logits, logits.flip(1)])
    assert kind_of(batch.sigmoid(), dim=1) == "sigmoid"
    for kind, values in (("logits", batch), ("sigmoid", batch.sigmoid()), ("energies", batch)):
        each = torch.stack([energies_from(one, kind) for one in values])
        assert torch.equal(energies_from(values, kind, dim=1), each)
    assert energies_from(batch[:, :1], "logits", dim=1).shape == (2, 2, 9, 11)


def test_energies_are_minus_the_log_of_what_the_kind_says(logits):
    p = logits.softmax(0)
    expected = -logits.log_softmax(0)
    assert torch.allclose(energies_from(logits, "logits"), expected, atol=1e-6)
    assert torch.equal(energies_from(expected, "energies"), expected)
    assert torch.allclose(
        energies_from(p, "probabilities"), expected.clamp(max=-math.log(1e-5)), atol=1e-5
    )
    reference = utils.unary_from_softmax(p.numpy()).reshape(p.shape)
    assert np.allclose(energies_from(p, "probabilities").numpy(), reference, rtol=0, atol=1e-6)


def test_sigmoids_are_answers_of_which_one_is_yes():
    """P(l), given that one and only one of independent answers is yes, by counting them all."""
    p = torch.tensor([0.9, 0.6, 0.2], dtype=torch.float64)
    chance = torch.tensor([0.9 * 0.4 * 0.8, 0.1 * 0.6 * 0.8, 0.1 * 0.4 * 0.2], dtype=torch.float64)
    found = (-energies_from(p, "sigmoid")).softmax(0)
    assert torch.allclose(found, chance / chance.sum(), rtol=0, atol=1e-12)
    # the best stays the best, also where all are near to 0 or to 1
    x = torch.tensor([[-30.0, -20.0, -25.0], [13.0, 14.0, 12.0], [-90.0, -3.0, -95.0]]).T
    assert energies_from(x.sigmoid(), "sigmoid").argmin(0).tolist() == [1, 1, 1]
    assert same_marginals(energies_from(x.sigmoid(), "sigmoid"), -x, tolerance=5e-2)
    certain = energies_from(torch.tensor([1.0, 0.0, 1.0]), "sigmoid")
    assert certain.isfinite().all()
    assert certain[0] == certain[2] < certain[1]


def test_one_channel_is_the_foreground(logits):
    x = logits[:1]
    p = x.sigmoid()
    expected = torch.cat([1 - p, p])
    for kind, values in (("logits", x), ("sigmoid", p), ("probabilities", p)):
        found = (-energies_from(values, kind)).softmax(0)
        assert found.shape == (2, 9, 11)
        assert torch.allclose(found, expected, rtol=0, atol=2e-5)
    # the same as two answers, of which the background's has even odds
    two = energies_from(torch.cat([torch.full_like(p, 0.5), p]), "sigmoid")
    assert same_marginals(two, energies_from(x, "logits"), tolerance=2e-5)


def test_infinities_exclude_a_label(logits):
    x = logits.clone()
    x[2, 4] = -math.inf
    assert kind_of(x) == "logits"
    u = energies_from(x, "logits")
    assert (u[2, 4] == math.inf).all()
    assert u.isinf().sum() == 11
    assert kind_of(u) == kind_of(u, "energies") == "energies"
    assert torch.equal(energies_from(u, "energies"), u)


AMBIGUOUS = {
    "a ReLU": (lambda x: x.relu(), "none below 0, could be energies .* `kind` energies or logits"),
    "other energies": (lambda x: 3 - x.log_softmax(0), "none below 0, could be energies"),
    "rounded": (
        lambda x: x.softmax(0) * 0.98,
        "up to 0.02 away from a sum of 1 could be probabilities",
    ),
    "resampled": (lambda x: x.softmax(0) * 1.1 - 0.02, "from -0.02 .* could be probabilities"),
    "padded": (lambda x: x.softmax(0) * (torch.arange(11) < 8), "but for 27 pixels of zeros,"),
    "grey levels": (lambda x: x[:1].sigmoid() * 255, "of a single channel .*divide"),
    "NaN": (lambda x: x.masked_fill(x > 3, math.nan), "are NaN"),
    "overflow": (lambda x: x.masked_fill(x > 3, math.inf), "float16 ends at 65504"),
    "nothing left": (lambda x: x.index_fill(1, torch.tensor(2), -math.inf), "no label left"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_is_not_safe_is_asked(logits, case):
    change, message = AMBIGUOUS[case]
    with pytest.raises(ValueError, match=message):
        kind_of(change(logits))


def test_what_is_said_is_believed_where_it_can_be(logits):
    p = logits.softmax(0)
    assert kind_of(logits.relu(), "logits") == "logits"
    assert kind_of(3 - p.log(), "energies") == "energies"
    assert kind_of(p, "sigmoid") == "sigmoid"
    assert kind_of(p, "logits") == "logits"
    assert kind_of((255 * p).round() / 255, "probabilities") == "probabilities"
    assert kind_of(p * (torch.arange(11) < 8), "probabilities") == "probabilities"
    for values, kind, message in (
        (p * 0.9, "probabilities", "are no probabilities .use `kind` sigmoid, logits or energies"),
        (logits, "probabilities", "are no probabilities"),
        (logits, "sigmoid", "are no independent sigmoids .use `kind` logits"),
        (logits[:1], "energies", "single channel"),
        (p.log().masked_fill(p < 0.1, -math.inf), "energies", "exclude no label"),
        (p, "softmax", "`kind` softmax is unknown"),
        (p[:, :0], "auto", r"expected some labels and pixels, got \(5, 0, 11\)"),
    ):
        with pytest.raises(ValueError, match=message):
            kind_of(values, kind)
    with pytest.raises(ValueError, match="`kind` auto is unknown"):
        energies_from(p, "auto")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_are_as_in_pydensecrf(dtype):
    labels = torch.tensor([[0, 1, 2, 2], [255, 1, 0, 255]], dtype=dtype)
    found = energies_from_labels(labels, 3, 0.7)
    shifted = np.where(labels.numpy() == 255, 0, labels.numpy().astype(np.int64) + 1)
    expected = utils.unary_from_labels(shifted, 3, 0.7).reshape(3, 2, 4)
    assert np.array_equal(found.numpy(), expected)
    assert occurring_labels(labels).tolist() == [0, 1, 2]
    assert energies_from_labels(labels.flatten()[:0], 3, 0.7).shape == (3, 0)


def test_wrong_labels():
    labels = torch.tensor([[0, 1, 2], [255, 1, 0]])
    with pytest.raises(TypeError, match=r"labels: expected integers, got torch.float32"):
        energies_from_labels(labels.float(), 3, 0.7)
    for num, confidence, ignore, message in (
        (2, 0.7, 255, r"labels: expected 0..1 or 255, got 2"),
        (3, 0.7, 0, r"labels: expected 0..2 or 0, got 255"),
        (3, 1.0, 255, r"`confidence` 1.0: expected above 0.333"),
        (3, 0.3, 255, r"`confidence` 0.3: expected above 0.333"),
        (3, math.nan, 255, r"`confidence` nan: expected above"),
    ):
        with pytest.raises(ValueError, match=message):
            energies_from_labels(labels, num, confidence, ignore)
    with pytest.raises(ValueError, match=r"labels: expected 0..2 or 255, got -1"):
        energies_from_labels(labels - 1, 3, 0.7)


def test_every_kind_has_a_word():
    assert {*unary_of.KINDS} == {"auto", *unary_of.WORDS}
