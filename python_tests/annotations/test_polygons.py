"""Polygons of masks and masks of polygons, beside pycocotools."""

import re

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings

from deeplab_native._annotations import coco_polygons, fill_polygons
from python_tests.annotations.shapes import masks, polygons

# of pycocotools 2.0.11 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@settings(deadline=None)
@given(masks())
def test_round_trip(mask):
    found = coco_polygons(mask)
    np.testing.assert_array_equal(fill_polygons(found, mask.shape), mask)
    pycocotools = pytest.importorskip("pycocotools.mask")
    if found:  # it takes no empty list
        rles = pycocotools.frPyObjects(found, *mask.shape)
        np.testing.assert_array_equal(pycocotools.decode(pycocotools.merge(rles)), mask)


@settings(deadline=None)
@given(polygons())
def test_any_polygon_has_the_pixels_that_pycocotools_gives_it(polygon):
    pycocotools = pytest.importorskip("pycocotools.mask")
    points, size = polygon
    (rle,) = pycocotools.frPyObjects([points], *size)
    np.testing.assert_array_equal(fill_polygons([points], size), pycocotools.decode(rle))


def test_a_rectangle_and_its_pixels():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    np.testing.assert_array_equal(fill_polygons([[2, 1, 5, 1, 5, 3, 2, 3]], (5, 6)), mask)
    ((*corners,),) = coco_polygons(mask)
    points = np.reshape(corners, (-1, 2))
    assert len(points) == 8  # its corners are cut by half a pixel
    assert points.min(0).tolist() == [2, 1] and points.max(0).tolist() == [5, 3]


def test_holes_and_parts():
    mask = np.zeros((20, 30), bool)
    mask[2:18, 2:18] = True
    mask[4:16, 4:16] = False  # a hole, and in it
    mask[6:14, 6:14] = True  # a part
    mask[9:11, 9:11] = False  # with a hole
    mask[5, 25] = True
    found = coco_polygons(mask)
    assert len(found) == 3
    np.testing.assert_array_equal(fill_polygons(found, mask.shape), mask)
    assert coco_polygons(np.zeros((3, 4))) == []
    assert not fill_polygons([], (3, 4)).any()


def test_outside_of_the_picture():
    inside = fill_polygons([[-10, -10, 50, -10, 50, 50, -10, 50]], (4, 5))
    assert inside.all()
    assert not fill_polygons([[10, 10, 20, 10, 20, 20]], (4, 5)).any()
    assert not fill_polygons([[1, 1, 1, 1, 1, 1]], (4, 5)).any()  # no area


def test_the_outline_is_worked_on_in_parts(monkeypatch):
    from deeplab_native._annotations import polygons as module

    y, x = np.indices((60, 70))
    mask = np.hypot(y - 30, x - 30) < 25
    monkeypatch.setattr(module, "_AT_ONCE", 7)
    np.testing.assert_array_equal(fill_polygons(coco_polygons(mask), mask.shape), mask)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("abc", "`polygons`: expected a list of polygons, got 'abc'"),
        ([1, 2, 3], "`polygons[0]`: expected three corners or more"),
        ([[1, 2, 3, 4]], "`polygons[0]`: expected three corners or more"),
        ([[1, 2, 3, 4, 5]], "`polygons[0]`: expected three corners or more"),
        ([[0, 0, 1, 1, 0, 1], [[1, 2], [3]]], "`polygons[1]`: expected three corners or more"),
        ([["a", 2, 3, 4, 5, 6]], "`polygons[0]`: expected three corners or more"),
        ([[10**400, 2, 3, 4, 5, 6]], "`polygons[0]`: expected three corners or more"),
        ([[float("nan"), 2, 3, 4, 5, 6]], "`polygons[0]`: corners that are not finite"),
        ([[1e9, 2, 3, 4, 5, 6]], "`polygons[0]`: a corner at 1e+09 for a picture of 4 x 5"),
        ([[-499, 0, 499, 0, 0, 1] * 99999], "an outline of "),
    ],
)
def test_no_polygon(given_, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fill_polygons(given_, (4, 5))
