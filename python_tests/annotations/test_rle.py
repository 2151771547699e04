"""COCO's run lengths, beside pycocotools."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings

from deeplab_native._annotations import decode_rle, encode_rle
from python_tests.annotations.shapes import masks

# of pycocotools 2.0.11 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@settings(deadline=None)
@given(masks())
def test_round_trip(mask):
    for compressed in (True, False):
        rle = json.loads(json.dumps(encode_rle(mask, compressed=compressed)))
        assert rle["size"] == list(mask.shape)
        np.testing.assert_array_equal(decode_rle(rle), mask)


@settings(deadline=None)
@given(masks())
def test_same_characters_as_pycocotools(mask):
    pycocotools = pytest.importorskip("pycocotools.mask")
    theirs = pycocotools.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours == {"size": list(theirs["size"]), "counts": theirs["counts"].decode()}
    np.testing.assert_array_equal(decode_rle(theirs), mask)  # bytes, as it returns them
    np.testing.assert_array_equal(pycocotools.decode(ours), mask)


def test_long_runs_and_differences_of_either_sign():
    mask = np.zeros((1500, 1400), bool)
    mask[3:, 5:900], mask[:, 1000], mask[7, 1200] = True, True, True
    rle = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    plain = encode_rle(mask, compressed=False)
    assert plain["counts"][0] == 5 * 1500 + 3 and sum(plain["counts"]) == mask.size
    np.testing.assert_array_equal(decode_rle(plain), decode_rle(rle))


def test_other_numbers_than_booleans():
    mask = np.array([[0, 255], [3, 0]], np.uint8)
    assert encode_rle(mask, compressed=False) == {"size": [2, 2], "counts": [1, 2, 1]}


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ([1, 2], '`rle`: expected {"size": [height, width], "counts": ...}, got [1, 2]'),
        ({"size": [2], "counts": [4]}, "`rle` size: expected a size [height, width], got [2]"),
        ({"size": [2, True], "counts": [2]}, "got [2, True]"),
        ({"size": [2, -2], "counts": [4]}, "got [2, -2]"),
        ({"size": [1 << 20, 1 << 20], "counts": [1 << 40]}, "are more than 268435456 pixels"),
        ({"size": [2, 2], "counts": [1, 2]}, "runs of 3 pixels together for a mask of 2 x 2"),
        ({"size": [2, 2], "counts": [-1, 5]}, "runs from -1 to 5"),
        ({"size": [2, 2], "counts": [2**70]}, "runs of more than 2^63 pixels"),
        ({"size": [2, 2], "counts": [2**62, 2**62, 2**62, 2**62 + 4]}, "it is damaged"),
        ({"size": [2, 2], "counts": [1.5, 2.5]}, "expected `counts` of whole numbers or a string"),
        ({"size": [2, 2]}, "got None"),
        ({"size": [2, 2], "counts": "4 4"}, "are no compressed counts"),
        ({"size": [2, 2], "counts": "T"}, "are no compressed counts"),  # cut off in a number
        ({"size": [2, 2], "counts": "é"}, "runs of"),  # replaced by a question mark, 15
        ({"size": [2, 2], "counts": "o" * 90 + "0"}, "a run of more than 268435456 pixels"),
        ({"size": [2, 2], "counts": ""}, "runs of 0 pixels together"),
    ],
)
def test_damaged(rle, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        decode_rle(rle)


def test_of_another_picture():
    rle = encode_rle(np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="`x`: a mask of 2 x 3 for a picture of 3 x 2"):
        decode_rle(rle, size=(3, 2), name="x")


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.zeros(3), ValueError, "`mask`: expected (H, W), got (3,)"),
        (np.array([["a"]]), TypeError, "`mask`: expected booleans or numbers"),
    ],
)
def test_no_mask(mask, error, message):
    with pytest.raises(error, match=re.escape(message)):
        encode_rle(mask)
