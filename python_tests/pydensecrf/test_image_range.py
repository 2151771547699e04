"""deeplab_native.pydensecrf on images that are not of 0..255: errors that help, and warnings."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from deeplab_native.pydensecrf import densecrf as dcrf
from deeplab_native.pydensecrf import utils
from python_tests import said_warnings

said = said_warnings.said  # a fixture, also where conftest.py, which needs torch, is left out
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)


def inference(image):
    crf = dcrf.DenseCRF2D(7, 6, 2)
    crf.setUnaryEnergy(np.random.default_rng(1).normal(size=(2, 42)).astype(np.float32))
    crf.addPairwiseBilateral(20, 13, image, 5)
    return np.array(crf.inference(3))


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda a: a / 255, "(255 * rgbim).round().astype(numpy.uint8)"),
        (lambda a: a / np.float32(1), "rgbim.astype(numpy.uint8)"),
        (lambda a: a.astype(np.uint16) * 257, "(rgbim // 257).astype(numpy.uint8)"),
        (lambda a: a.astype(np.int16), "rgbim.astype(numpy.uint8)"),
        (lambda a: a.astype(np.int64), "rgbim.astype(numpy.uint8)"),
        (lambda a: a.transpose(2, 0, 1), "rgbim.transpose(1, 2, 0)"),
    ],
)
def test_remedies_give_the_photos_result(change, remedy):
    image = change(IMAGE)
    with pytest.raises(ValueError, match="rgbim: ") as raised:
        inference(image)
    assert remedy in str(raised.value)
    mended = eval(remedy, {"rgbim": image, "numpy": np})
    np.testing.assert_array_equal(inference(mended), inference(IMAGE))


def test_a_tensor_is_refused_with_both_remedies():
    torch = pytest.importorskip("torch")
    message = r"rgbim: expected a numpy.ndarray, got Tensor \(rgbim.detach\(\).cpu\(\).numpy\(\); "
    with pytest.raises(TypeError, match=message + "deeplab_native.dense_crf takes tensors"):
        inference(torch.from_numpy(IMAGE))
    with pytest.raises(TypeError, match=r"u: expected .* got list \(numpy.asarray\(u\)\)"):
        dcrf.DenseCRF(2, 2).setUnaryEnergy([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("change", "schan", "message"),
    [
        (
            lambda a: a / a.max(),
            13,
            "to 1, but schan=13 is in levels of 0..255, so that hardly any",
        ),
        (lambda a: a / a.max(), (5, 6, 7), "to 1, but schan=(5.0, 6.0, 7.0) is in levels"),
        (
            lambda a: (a / 255 - 0.45) / 0.22,
            13,
            "(give the image's own values, 0..255, or schan in",
        ),
        (
            lambda a: a.astype(np.uint16) * 257,
            13,
            "every pixel has a colour of its own (divide img",
        ),
        (lambda a: a * 257.0, 13, "every pixel has a colour of its own (divide img, by 257 where"),
    ],
)
def test_features_of_misfits_warn_once(change, schan, message, said):
    image = change(IMAGE)
    features = utils.create_pairwise_bilateral((20, 20), schan, image, 2)
    utils.create_pairwise_bilateral((20, 20), schan, image, 2)
    (warning,) = said
    assert message in str(warning.message) and str(warning.message).startswith("img: values from")
    assert warning.category is UserWarning and warning.filename == __file__
    expected = (image / np.broadcast_to(schan, 3)).reshape(-1, 3).T
    np.testing.assert_allclose(features[2:], expected, rtol=1e-6)  # as they always were


@pytest.mark.parametrize(
    ("change", "schan"),
    [
        (lambda a: a, 13),
        (lambda a: a.astype(int), 13),
        (lambda a: a.astype(np.float32), 13),
        (lambda a: a / 255, 0.05),
        (lambda a: a / 255, (0.05, 1, 1)),  # one of them is in its units
        (lambda a: a // 86 - 1, 1),  # classes
        (lambda a: (a // 86).astype(int) - 1, 1),
        (lambda a: a > 99, 1),
        (lambda a: a * 40.0, 500),
        (lambda a: a * 0.0, 3),
        (lambda a: a - 117.0, 13),
        (lambda a: a[:0] / 255, 13),
    ],
)
def test_what_fits_is_not_warned_of(change, schan, said):
    utils.create_pairwise_bilateral((20, 20), schan, change(IMAGE), 2)
    assert not said


def test_once_in_a_process_and_without_torch():
    code = """if True:
        import sys, numpy as np
        from deeplab_native.pydensecrf.utils import create_pairwise_bilateral as create
        image = np.random.rand(4, 5, 3)
        for _ in range(3):
            create((3, 3), 13, image, 2)
        create((3, 3), 14, image, 2)
        assert "torch" not in sys.modules
        """
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stderr.count("UserWarning: img: values from 0") == 1
    assert "this is said once" in run.stderr
