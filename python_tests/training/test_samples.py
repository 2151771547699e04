"""Augmentation, and which samples an update sees."""

import numpy as np
import pytest
import torch

from deeplab_native.data import open_dataset
from deeplab_native.training import augment, training_loader
from deeplab_native.training.config import Augmentation
from deeplab_native.training.samples import Passes, sample_index
from python_tests.training import training_cases as cases

PLAIN = {"scales": (1.0,), "mirror": False}


def chance(seed=0):
    return np.random.default_rng(seed)


class Fixed:
    """Gives numbers of one's choice: scale, top, left, mirror, brightness, contrast."""

    def __init__(self, scale=0.0, top=0.0, left=0.0, mirror=0.9, brightness=0.5, contrast=0.5):
        self.values = (scale, top, left, mirror, brightness, contrast)

    def random(self, count):
        assert count == len(self.values)
        return np.array(self.values)


def coded(height, width):
    """A photograph whose colour says where a pixel lies, and labels that say it, too."""
    y, x = np.mgrid[:height, :width]
    image = np.stack((y, x, y + x), -1).astype(np.uint8)
    return image, (y * 7 + x).astype(np.uint8)


def test_image_and_labels_stay_together():
    """At scale 1, every pixel keeps its label, and lies where the crop and the mirror say."""
    image, labels = coded(40, 50)
    config = Augmentation(crop=25, scales=(1.0,), mirror=True)
    seen = set()
    for seed in range(20):
        crop = augment(image, labels, config, chance(seed))
        assert crop.inside == (25, 0, 25)
        y, x = crop.image[0].long(), crop.image[1].long()
        assert torch.equal(crop.labels, torch.from_numpy(labels)[y, x])
        steps = x[0, 1:] - x[0, :-1]
        assert steps.abs().eq(1).all() and steps.unique().numel() == 1
        seen.add((int(steps[0]), int(y[0, 0]), int(x.min())))
    assert {step for step, _, _ in seen} == {1, -1}
    assert len({y for _, y, _ in seen}) > 8 and len({x for _, _, x in seen}) > 8


@pytest.mark.parametrize("mirrored", [False, True])
def test_padding(mirrored):
    """At the bottom and the right, mirrored to the left: void, and no pixels of the image."""
    image, labels = coded(10, 14)
    config = Augmentation(crop=17, scales=(1.0,), mirror=True)
    crop = augment(image, labels, config, Fixed(mirror=0.1 if mirrored else 0.6))
    assert crop.inside == ((10, 3, 17) if mirrored else (10, 0, 14))
    there = torch.from_numpy(labels)
    columns = slice(3, 17) if mirrored else slice(0, 14)
    assert torch.equal(crop.labels[:10, columns], there.flip(1) if mirrored else there)
    outside = torch.ones(17, 17, dtype=torch.bool)
    outside[:10, columns] = False
    assert crop.labels[outside].eq(255).all()
    assert crop.image[:, outside].eq(0).all()


def test_one_side_is_padded_and_the_other_cropped():
    image, labels = coded(10, 40)
    crop = augment(image, labels, Augmentation(crop=20, **PLAIN), Fixed(top=0.99, left=0.999))
    assert crop.inside == (10, 0, 20)
    assert crop.labels[0].tolist() == labels[0, 20:].tolist()


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 1.5])
def test_scales(scale):
    """trunc(scale * size); bilinear and nearest as OpenCV: here by their formulas, in loops."""
    random = chance(1)
    image = random.integers(0, 256, (21, 30, 3), dtype=np.uint8)
    labels = random.integers(0, 20, (21, 30), dtype=np.uint8)
    size = int(21 * scale), int(30 * scale)
    config = Augmentation(crop=64, scales=(scale,), mirror=False)
    crop = augment(image, labels, config, Fixed())
    assert crop.inside == (size[0], 0, size[1])
    for y in range(size[0]):
        for x in range(size[1]):
            assert crop.labels[y, x] == labels[y * 21 // size[0], x * 30 // size[1]]
            value = np.zeros(3)
            v = np.clip((y + 0.5) * 21 / size[0] - 0.5, 0, 20)
            u = np.clip((x + 0.5) * 30 / size[1] - 0.5, 0, 29)
            for row in range(int(v), min(int(v) + 2, 21)):
                for column in range(int(u), min(int(u) + 2, 30)):
                    weight = (1 - abs(v - row)) * (1 - abs(u - column))
                    value += weight * image[row, column]
            assert np.abs(crop.image[:, y, x].numpy() - value).max() <= 1.01  # 8-bit weights


def test_scale_choice():
    config = Augmentation(crop=9, mirror=False)
    image, labels = coded(40, 40)
    sizes = set()
    for i in range(5):
        crop = augment(image, labels, config.model_copy(update={"crop": 90}), Fixed(0.2 * i + 0.1))
        sizes.add(crop.inside[0])
    assert sizes == {20, 30, 40, 50, 60}
    ranged = Augmentation(crop=90, scale_range=(0.5, 1.5), mirror=False)
    assert augment(image, labels, ranged, Fixed(0.25)).inside[0] == 30


def test_brightness_and_contrast():
    image, labels = coded(8, 8)
    image[:] = (0, 100, 250)
    bright = Augmentation(crop=9, brightness=0.2, **PLAIN)
    crop = augment(image, labels, bright, Fixed(brightness=1.0))
    assert crop.image[:, 0, 0].tolist() == [51, 151, 255]
    assert crop.image[:, 8].eq(0).all()  # padding stays
    contrast = Augmentation(crop=9, contrast=0.5, **PLAIN)
    crop = augment(image, labels, contrast, Fixed(contrast=0.0))
    assert crop.image[:, 0, 0].tolist() == [64, 114, 189]


def test_every_epoch_sees_every_photograph_once():
    for size in (1, 7):
        orders = [[sample_index(3, e * size + i, size) for i in range(size)] for e in range(4)]
        assert all(sorted(order) == list(range(size)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert [sample_index(4, i, 7) for i in range(7)] != orders[0]


def test_processes_share_what_one_sees():
    one = Passes(batch=12, accumulate=3, rank=0, processes=1, start=5, stop=8)
    assert len(one) == 9
    whole = list(one)
    assert [n for part in whole for n in part] == list(range(60, 96))
    two = [Passes(batch=12, accumulate=3, rank=r, processes=2, start=5, stop=8) for r in (0, 1)]
    assert [a + b for a, b in zip(*two, strict=True)] == whole


def test_batches_depend_on_seed_and_number_alone(tmp_path):
    root = cases.write_shapes(tmp_path / "shapes", 6, 1)
    dataset = open_dataset("folder", root, "train")

    def batches(start, stop, seed=0):
        config = cases.config_of(root, seed=seed)
        return list(training_loader(dataset, config, rank=0, processes=1, start=start, stop=stop))

    first, late = batches(0, 4), batches(2, 4)
    for a, b in zip(first[2:], late, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        assert (a.names, a.inside) == (b.names, b.inside)
    assert not torch.equal(first[0].images, batches(0, 1, seed=1)[0].images)
    # the same photograph again, in the next epoch, is augmented anew
    where = {name: image for b in first[:1] for name, image in zip(b.names, b.images, strict=True)}
    again = [(n, i) for b in first[2:] for n, i in zip(b.names, b.images, strict=True)]
    assert any(name in where and not torch.equal(where[name], image) for name, image in again)
