"""`refine`: every form in which people have a picture and a mask, and what comes back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import CRFParams, crf, dense_crf, refine
from deeplab_native.crf.unary import energies_from, energies_from_labels
from deeplab_native.pydensecrf import densecrf
from deeplab_native.pydensecrf.utils import unary_from_labels

HEIGHT, WIDTH = 20, 30
PARAMS = CRFParams(4, 9, 20, 2, 2)
RANDOM = np.random.default_rng(0)
PHOTO = RANDOM.integers(0, 40, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PHOTO[3:15, 8:21] += 160
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[5:17, 6:19] = True  # beside what the photo shows
NUMBERS = np.where(MASK, 7, 3)
NUMBERS[:4] = 200
SCORES = RANDOM.normal(size=(3, HEIGHT, WIDTH)).astype(np.float32) * 2
PROBABILITIES = np.exp(SCORES) / np.exp(SCORES).sum(0)


def tensor_photo(photo=PHOTO):
    return torch.from_numpy(photo.copy()).permute(2, 0, 1)


def marginals(unary, photo=PHOTO, params=PARAMS, **how):
    """(L, H, W), as `dense_crf` has them."""
    return dense_crf(
        unary[None].float().contiguous(), tensor_photo(photo)[None].contiguous(), params, **how
    )[0]


def of_labels(index, num_labels, confidence=0.7):
    return marginals(energies_from_labels(torch.as_tensor(index), num_labels, confidence))


def check(given, expected, q, **how):
    """The labels are as expected, in the container of `given`; Q too."""
    found, probabilities = refine(PHOTO, given, params=PARAMS, return_probabilities=True, **how)
    assert type(found) is type(given)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert (found == expected).all()
    assert type(probabilities) is type(given)
    np.testing.assert_array_equal(np.asarray(probabilities), q.numpy())
    alone = refine(PHOTO, given, params=PARAMS, **how)
    assert (alone == found).all()


Q_MASK = of_labels(MASK.astype(int), 2)
REFINED = Q_MASK.argmax(0).numpy().astype(bool)


def test_it_follows_the_picture():
    """Not only like `dense_crf`: nearer to what is there."""
    there = np.zeros_like(MASK)
    there[3:15, 8:21] = True
    assert (there != REFINED).sum() < 0.3 * (there != MASK).sum()


@pytest.mark.parametrize(
    ("dtype", "white"),
    [(bool, 1), (np.uint8, 255), (np.uint8, 1), (np.uint16, 65535), (np.int64, 255),
     (np.int32, 1), (np.float32, 1), (np.float64, 255), (np.float16, 1), (">f4", 1), (">i2", 255)],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (1, HEIGHT, WIDTH), (HEIGHT, WIDTH, 1)])
def test_masks(dtype, white, shape):
    values = np.array([0, white]).astype(dtype)
    given = values[MASK.astype(int)].reshape(shape)
    check(given, values[REFINED.astype(int)].reshape(shape), Q_MASK)


@pytest.mark.parametrize(
    ("dtype", "white"),
    [(torch.bool, 1), (torch.uint8, 255), (torch.int64, 255), (torch.int16, 1), (torch.float32, 1),
     (torch.float64, 255), (torch.bfloat16, 1)],
)  # fmt: skip
def test_masks_as_tensors(dtype, white):
    given = (torch.from_numpy(MASK) * white).to(dtype)
    check(given, (torch.from_numpy(REFINED) * white).to(dtype), Q_MASK)


def test_masks_of_one_value_and_kind_mask():
    white = np.full((HEIGHT, WIDTH), 255, np.uint8)
    assert (refine(PHOTO, white, kind="mask", params=PARAMS) == 255).all()
    for dtype in (bool, np.uint8, np.float32):
        black = np.zeros((HEIGHT, WIDTH), dtype)
        found = refine(PHOTO, black, params=PARAMS)
        assert found.dtype == dtype and not found.any()
    given = np.where(MASK, 9, 0)
    check(given, np.where(REFINED, 9, 0), Q_MASK, kind="mask")
    check(given, np.where(REFINED, 9, 0), Q_MASK)  # labels 0 and 9, which is the same


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint32, np.float32])
def test_label_maps(dtype):
    values, index = np.unique(NUMBERS, return_inverse=True)
    q = of_labels(index.reshape(NUMBERS.shape), 3)
    given = NUMBERS.astype(dtype)
    expected = values[q.argmax(0).numpy()].astype(dtype)
    check(given, expected, q)
    if dtype != np.uint32:
        given = torch.from_numpy(given)
        check(given, torch.from_numpy(expected), q)


def test_labels_that_do_not_lie_row_by_row():
    expected = refine(PHOTO, NUMBERS, params=PARAMS)
    column = np.asfortranarray(NUMBERS)
    turned = torch.from_numpy(NUMBERS.T.copy()).T
    assert (refine(PHOTO, column, params=PARAMS) == expected).all()
    assert (refine(PHOTO, turned, params=PARAMS).numpy() == expected).all()


@pytest.mark.parametrize("ignore", [255, -1, -100, 7])
def test_unsure_pixels_are_decided(ignore):
    given = np.where(MASK, 4, 2)
    given[8:14, 10:16] = ignore
    index = torch.as_tensor(np.where(MASK, 1, 0))
    index[8:14, 10:16] = -1
    q = marginals(energies_from_labels(index, 2, 0.7, -1))
    how = {"ignore": ignore} if ignore == 7 else {}
    check(given, np.where(q.argmax(0).numpy(), 4, 2), q, **how)
    one = np.where(MASK, 4, ignore)  # a single label: nothing else can be there
    found, q = refine(PHOTO, one, ignore=ignore, return_probabilities=True)
    assert (found == 4).all() and q.shape == (1, HEIGHT, WIDTH) and (q == 1).all()


@pytest.mark.parametrize("confidence", [0.55, 0.9])
def test_confidence(confidence):
    q = of_labels(MASK.astype(int), 2, confidence)
    check(MASK, q.argmax(0).numpy().astype(bool), q, confidence=confidence)


def test_masks_of_every_label():
    index = (NUMBERS == 7) + 2 * (NUMBERS == 200)
    q = of_labels(index, 3)
    stack = np.stack([index == i for i in range(3)])
    expected = q.argmax(0).numpy()
    for given in (
        stack,
        stack.astype(np.uint8),
        stack.astype(np.float32),
        np.moveaxis(stack, 0, 2),
    ):
        check(given, expected, q)
        check(torch.from_numpy(given.copy()), torch.from_numpy(expected), q)
    stack[:, 8:12] = False  # unsure
    index[8:12] = -1
    q = marginals(energies_from_labels(torch.as_tensor(index), 3, 0.7, -1))
    check(stack, q.argmax(0).numpy(), q)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (PROBABILITIES, "auto"),
        (PROBABILITIES, "probabilities"),
        (SCORES, "auto"),
        (SCORES, "logits"),
        (-np.log(PROBABILITIES), "auto"),
        (np.abs(SCORES), "energies"),
        (1 / (1 + np.exp(-SCORES)), "sigmoid"),
    ],
)
def test_scores(values, kind):
    said = kind if kind != "auto" else {1: "logits", 0: "energies"}[int(values.min() < 0)]
    said = "probabilities" if values is PROBABILITIES else said
    q = marginals(energies_from(torch.from_numpy(values), said))
    labels = q.argmax(0).numpy()
    for given in (values, np.moveaxis(values, 0, 2)):
        check(given, labels, q, kind=kind)
        check(torch.from_numpy(given), torch.from_numpy(labels), q, kind=kind)
    check(torch.from_numpy(values).requires_grad_(), torch.from_numpy(labels), q, kind=kind)


def test_a_foreground_map():
    p = (0.2 + 0.6 * MASK + RANDOM.random(MASK.shape) * 0.1).astype(np.float32)
    q = marginals(energies_from(torch.from_numpy(p)[None], "sigmoid"))
    check(p, q.argmax(0).numpy() == 1, q)
    check(p[None], q.argmax(0).numpy() == 1, q)
    logits = np.log(p / (1 - p))
    check(
        logits,
        q.argmax(0).numpy() == 1,
        marginals(energies_from(torch.from_numpy(logits)[None], "logits")),
    )
    eight_bit = (p * 255).round().astype(np.uint8)
    q = marginals(energies_from(torch.from_numpy(eight_bit / np.float32(255))[None], "sigmoid"))
    check(eight_bit, q.argmax(0).numpy() == 1, q, kind="probabilities")


def test_pil_images():
    palette = [0, 0, 0, 255, 0, 0, 0, 255, 0]
    for mode, values in (("1", MASK), ("L", MASK * np.uint8(255)), ("I", np.where(MASK, 9, 0))):
        given = Image.fromarray(values if mode != "I" else values.astype(np.int32))
        assert given.mode == mode
        found = refine(Image.fromarray(PHOTO), given, params=PARAMS)
        assert isinstance(found, Image.Image) and found.mode == mode
        assert (np.asarray(found) == np.where(REFINED, values.max(), 0)).all()
    given = Image.fromarray(MASK.astype(np.uint8))
    given.putpalette(palette)
    found, q = refine(PHOTO, given, params=PARAMS, return_probabilities=True)
    assert found.mode == "P" and found.getpalette()[:9] == palette
    assert (np.asarray(found) == REFINED).all()
    assert isinstance(q, np.ndarray)
    soft = Image.fromarray((MASK * 200).astype(np.uint8))
    found = refine(PHOTO, soft, kind="probabilities", params=PARAMS)
    assert found.mode == "1" and np.asarray(found).any()


def test_parameters():
    preset = CRFParams.preset("pydensecrf")
    expected = marginals(energies_from_labels(torch.as_tensor(MASK).long(), 2, 0.7), params=preset)
    _, q = refine(PHOTO, MASK, params="pydensecrf", return_probabilities=True)
    np.testing.assert_array_equal(q, expected.numpy())
    changed = CRFParams(preset.w1, 20, 5, preset.w2, preset.sigma_gamma)
    how = {"iterations": 3, "normalization": "after", "scale": 0.5}
    unary = energies_from_labels(torch.as_tensor(MASK).long(), 2, 0.7)
    expected = marginals(unary, params=changed, **how)
    how |= {"params": "pydensecrf", "sigma_alpha": 20, "sigma_beta": 5}
    _, q = refine(PHOTO, MASK, return_probabilities=True, **how)
    np.testing.assert_array_equal(q, expected.numpy())


def test_large_pictures_are_scaled(monkeypatch):
    scales = []

    def spy(unary, *arguments, **how):
        scales.append(how["scale"])
        return unary

    monkeypatch.setattr("deeplab_native.crf.refining.dense_crf", spy)
    photo, mask = np.zeros((2000, 1500, 3), np.uint8), np.zeros((2000, 1500), bool)
    refine(photo, mask)
    refine(photo, mask, scale=0.9)
    refine(PHOTO, MASK)
    assert scales == [pytest.approx((2**19 / 3e6) ** 0.5, abs=1e-3), 0.9, 1.0]


def test_nothing_is_written_to_what_is_given():
    photo, mask, scores = PHOTO.copy(), MASK.copy(), SCORES.copy()
    for array in (photo, mask, scores):
        array.flags.writeable = False
    refine(photo, mask, params=PARAMS)
    refine(photo, scores, params=PARAMS)
    tensor = torch.from_numpy(SCORES.copy())
    refine(photo, tensor, params=PARAMS)
    assert (tensor.numpy() == SCORES).all()


@pytest.mark.parametrize("where", ["labels", "image", "argument"])
def test_devices(where, cuda_device):
    mask = torch.from_numpy(MASK).to(cuda_device if where == "labels" else "cpu")
    photo = tensor_photo().to(cuda_device if where == "image" else "cpu")
    device = cuda_device if where == "argument" else None
    found, q = refine(photo, mask, params=PARAMS, device=device, return_probabilities=True)
    assert found.device == q.device == mask.device
    assert (found.cpu().numpy() != REFINED).sum() <= 1
    assert math.isclose(float(q.sum()), HEIGHT * WIDTH, rel_tol=1e-4)


def test_the_name():
    assert crf.refine is refine


def test_it_is_what_pydensecrf_is_called_for():
    """The two functions of docs/migrating_from_pydensecrf.md, with all labels there."""
    index = (NUMBERS == 7) + 2 * (NUMBERS == 200)
    d = densecrf.DenseCRF2D(WIDTH, HEIGHT, 3)
    d.setUnaryEnergy(unary_from_labels(index, 3, gt_prob=0.7, zero_unsure=False))
    d.addPairwiseGaussian(sxy=3, compat=3)
    d.addPairwiseBilateral(sxy=80, srgb=13, rgbim=np.ascontiguousarray(PHOTO), compat=10)
    q = np.asarray(d.inference(10)).reshape(3, HEIGHT, WIDTH)
    labels, found = refine(PHOTO, index, params="pydensecrf", return_probabilities=True)
    np.testing.assert_allclose(found, q, atol=1e-4)
    assert (labels == q.argmax(0)).all()


def test_excluded_labels():
    """Logits of -inf, energies of +inf: that label is nowhere there."""
    scores = SCORES.copy()
    scores[1, 5:9] = -np.inf
    scores[:2, 9] = -np.inf
    for values, kind in ((scores, "logits"), (-scores, "energies")):
        labels, q = refine(PHOTO, values, kind=kind, params=PARAMS, return_probabilities=True)
        assert (labels[5:9] != 1).all() and (labels[9] == 2).all()
        assert (q[1, 5:9] == 0).all() and (q[2, 9] > 0.9999).all() and (q[:2, 9] == 0).all()
