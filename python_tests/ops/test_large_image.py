"""Labels of large images, band by band: their definition, their bits, their memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

import deeplab_native as dn
from deeplab_native.ops import _large_image as large
from deeplab_native.ops._large_image import (
    check_scale_or_auto,
    chosen_scale,
    in_bands,
    label_large_image,
    marginals_of_large_images,
)
from deeplab_native.ops._small_scores import SmallScores, bands

PARAMS = dn.CRFParams(4, 12, 15, 3, 2)
NORMALIZATIONS = ["symmetric", "after", "before", "none"]


def case(height=48, width=70, labels=5, small=(9, 13)):
    """Smooth scores, and an image of soft colours with edges."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    image = np.stack([60 + 90 * inside, 40 + x, 200 - y], 0) + random.normal(0, 3, (3, *x.shape))
    image = torch.from_numpy(image.clip(0, 255).astype(np.uint8))
    return torch.from_numpy(random.normal(0, 2, (labels, *small)).astype(np.float32)), image


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [(48, 70), (9, 13), (5, 4), (1, 1)])
def test_bands_enlarge_as_interpolate_does(aligned, size):
    values, _ = case()
    found = torch.cat([b for _, b in bands_of(SmallScores(values, size, aligned), size, 7)], 1)
    expected = functional.interpolate(
        values[None], size=size, mode="bilinear", align_corners=aligned
    )
    torch.testing.assert_close(found, expected[0], rtol=1e-5, atol=1e-5)


def bands_of(scores, size, band):
    return [(first, rows.clone()) for first, rows in bands(scores, size, band)]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_of_cells_that_are_pixels_it_is_the_crf_itself(normalization):
    values, image = case()
    params = PARAMS if normalization != "none" else dn.CRFParams(0.01, 12, 15, 0.1, 2)
    scores = SmallScores(values, (48, 70), aligned=True)
    enlarged = functional.interpolate(
        values[None], size=(48, 70), mode="bilinear", align_corners=True
    )
    unary = -enlarged.log_softmax(1)
    expected = dn.dense_crf(unary, image[None], params, normalization=normalization)
    how = {"normalization": normalization, "scale": 1.0}
    q = marginals_of_large_images([scores], image[None], params, **how)
    torch.testing.assert_close(q, expected, rtol=1e-4, atol=1e-4)
    found = label_large_image(scores, image, params, **how)
    # not where two labels are as likely as each other
    sure = expected[0].topk(2, 0).values.diff(dim=0)[0] < -1e-3
    assert torch.equal(found.after[sure].long(), expected[0].argmax(0)[sure])
    assert torch.equal(found.before.long(), enlarged[0].argmax(0))
    assert (found.after != found.before).any()


@pytest.mark.parametrize("weights", [(4, 3), (4, 0), (0, 3), (-1, 0.5)])
def test_labels_are_those_of_the_marginals(weights):
    """Pixels that were left out, as the message cannot change them, among them."""
    values, image = case()
    scores = SmallScores(4 * values, (48, 70), aligned=False)
    params = dn.CRFParams(weights[0], 12, 15, weights[1], 2)
    q = marginals_of_large_images([scores], image[None], params, scale=0.4)[0]
    torch.testing.assert_close(q.sum(0), torch.ones(48, 70))
    found = label_large_image(scores, image, params, scale=0.4)
    sure = q.topk(2, 0).values.diff(dim=0)[0] < -1e-3
    assert sure.float().mean() > 0.9
    assert torch.equal(found.after[sure].long(), q.argmax(0)[sure])


def test_bits_depend_on_no_band_and_no_thread(set_threads):
    values, image = case(61, 83)
    scores = SmallScores(values, (64, 88), aligned=True)
    found = []
    for threads in (1, 2, 3):
        set_threads(threads)
        for band in (None, 1, 5, 17):
            found.append(label_large_image(scores, image, PARAMS, scale=0.35, band=band))
    for other in found[1:]:
        assert torch.equal(other.before, found[0].before)
        assert torch.equal(other.after, found[0].after)


def test_labels_are_near_those_of_the_crf_itself():
    values, image = case(160, 240, labels=4, small=(12, 18))
    scores = SmallScores(values, (160, 240), aligned=False)
    enlarged = torch.cat([b for _, b in bands_of(scores, (160, 240), 16)], 1)
    params = dn.CRFParams(4, 30, 12, 3, 3)
    full = dn.dense_crf(-enlarged.log_softmax(0)[None], image[None], params)[0].argmax(0)
    found = label_large_image(scores, image, params, scale=0.5)
    changed = (full != found.before).float().mean()
    wrong = (full != found.after).float().mean()
    assert changed > 0.02
    assert wrong < changed / 4


def test_scores_larger_than_the_cells_are_averaged():
    """A checkerboard of scores cancels out in cells of four pixels; one point of each would not."""
    sign = 1 - 2 * ((torch.arange(40)[:, None] + torch.arange(40)) % 2)
    scores = SmallScores(torch.stack([5.0 * sign, -5.0 * sign + 0.5]), (40, 40), aligned=False)
    image = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    cells = large.Cells((40, 40), 0.5)
    unary = large.LargeCRF(scores, image, PARAMS, 1, "symmetric", 0.5)._unary(scores, cells)
    torch.testing.assert_close(unary[0, 0] - unary[0, 1], torch.full((400,), 0.5))


def test_the_scale_that_is_chosen(monkeypatch):
    like = torch.empty(0)
    assert chosen_scale("auto", 1 << 21, like) == 1
    assert chosen_scale("auto", (1 << 21) + 1, like) == 0.5
    assert chosen_scale("auto", 24_000_000, like) == 0.148
    assert chosen_scale(0.3, 24_000_000, like) == 0.3
    assert in_bands(0.148, 24_000_000, like)
    assert in_bands(None, 24_000_000, like)
    assert not in_bands(1.0, 24_000_000, like)
    assert not in_bands(0.5, 1 << 21, like)
    monkeypatch.setattr(large, "on_cuda", lambda tensor: True)
    assert chosen_scale("auto", 24_000_000, like) == 1
    assert chosen_scale("auto", 1 << 27, like) == 0.125
    assert not in_bands(None, 24_000_000, like)


def test_a_scale_that_is_none():
    assert check_scale_or_auto("auto") == "auto"
    with pytest.raises(ValueError, match="scale: expected a number above 0 up to 1, or auto"):
        check_scale_or_auto("half")
    with pytest.raises(ValueError, match="scale: expected more than 0"):
        check_scale_or_auto(0)


MEMORY = """
import resource, torch
from deeplab_native import CRFParams
from deeplab_native.ops._large_image import label_large_image
from deeplab_native.ops._small_scores import SmallScores
torch.set_num_threads(2)
y, x = torch.meshgrid(torch.arange(2000), torch.arange(3000), indexing="ij")
image = torch.stack([x // 12, y // 8, (x + y) // 20]).to(torch.uint8)
scores = SmallScores(torch.randn(21, 30, 45), (2000, 3000), False)
del x, y
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
label_large_image(scores, image, CRFParams(5, 70, 4, 3, 3), scale=0.1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_goes_with_the_cells():
    """Scores of all pixels alone would be 504 MB, and their CRF more than 2 GB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) * 1024 < 300e6


# Of the resident memory, what there is at once at the most; Linux says and forgets it
PEAK = """
import torch
from pathlib import Path
from deeplab_native import CRFParams
from deeplab_native.ops._large_image import label_large_image
from deeplab_native.ops._small_scores import SmallScores
def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
torch.set_num_threads(2)
torch.manual_seed(0)
size = 1184, 1776
image = torch.randint(0, 256, (1, 3, 30, 45), dtype=torch.uint8)
image = torch.nn.functional.interpolate(image, size, mode="bilinear")[0]
scores = SmallScores(torch.randn(7, 30, 45), size, False)
Path("/proc/self/clear_refs").write_text("5")
before = most()
label_large_image(scores, image, CRFParams(5, 70, 4, 3, 3), scale=0.5)
print(most() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator, or system")
def test_memory_of_the_largest_number_of_cells():
    """Memory in which the lattices were built is free again: 620 MB with it, 520 without."""
    done = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True)
    assert int(done.stdout) * 1024 < 570e6
