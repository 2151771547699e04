"""Crops that are made on the device, against those of the loader."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native.data import SampleError, open_dataset
from deeplab_native.models.preprocessing import CAFFE, TENSORFLOW
from deeplab_native.training import augmentation, training_loader
from deeplab_native.training.config import Augmentation
from deeplab_native.training.device_samples import DeviceSamples, DoesNotFitError
from deeplab_native.training.loss import TrainingLoss
from deeplab_native.training.samples import sample_chance
from python_tests.models.small_net import SmallNet
from python_tests.training import training_cases as cases

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]
COLOUR = {"brightness": 0.3, "contrast": 0.4}


def write_photographs(root: Path, count: int = 9) -> Path:
    """Of sizes of their own, one of them to be turned upright; noise, with void in the labels."""
    cases.write_shapes(root, 1, 1)
    random = np.random.default_rng(5)
    for number in range(count):
        height, width = random.integers(20, 90, 2)
        photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        labels = random.choice(np.array([0, 1, 2, 3, 255], np.uint8), (height, width))
        exif = Image.Exif()
        if number == 3:
            exif[0x0112] = 6  # lies on its side
            labels = labels.T.copy()
        Image.fromarray(photo).save(root / f"images/{number:02d}.png", exif=exif)
        Image.fromarray(labels).save(root / f"labels/{number:02d}.png")
    (root / "train.txt").write_text("".join(f"{i:02d}\n" for i in range(count)))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs") / "set")


def both(root, device, preprocessing=TENSORFLOW, passes=8, **changes):
    """(input of the loader, its labels, input of the device, its labels) of some passes."""
    config = cases.config_of(root, **changes)
    dataset = open_dataset("folder", root, "train")
    net = SmallNet()
    net.preprocessing = preprocessing
    loss = TrainingLoss(net, config.loss, channels_last=True)
    samples = DeviceSamples(dataset, config, preprocessing, torch.device(device))
    loader = training_loader(dataset, config, rank=0, processes=1, start=0, stop=passes)
    for number, batch in enumerate(loader):
        numbers = range(config.batch * number, config.batch * (number + 1))
        made = samples.crops(torch.from_numpy(samples.draws(numbers)).to(device))
        assert made.input.is_contiguous(memory_format=torch.channels_last)
        assert samples.names(numbers) == batch.names
        yield loss.prepare(batch), batch.labels, made.input.cpu(), made.labels.cpu()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("preprocessing", [TENSORFLOW, CAFFE], ids=["RGB", "BGR"])
def test_what_is_not_scaled_is_the_same(root, device, preprocessing):
    """Where each pixel lies, mirror, colour, padding and labels: to the last bit."""
    augmentation = {"crop": 65, "scales": [1.0], **COLOUR}
    for x, labels, made, own in both(root, device, preprocessing, augmentation=augmentation):
        assert torch.equal(labels, own)
        torch.testing.assert_close(made, x, rtol=0, atol=0 if device == "cpu" else 1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "augmentation",
    [
        {"crop": 33, "scale_range": [0.5, 1.5]},
        {"crop": 65, "scales": [0.75, 1.25], "mirror": False, **COLOUR},
        {"crop": 129, "scale_range": [0.5, 2.0], **COLOUR},
    ],
    ids=["cropped", "two scales", "padded"],
)
def test_crops_are_the_loaders(root, device, augmentation):
    """Labels and padding are the same; levels differ by what is rounded once more there."""
    largest = 1.001 * (1 + augmentation.get("contrast", 0)) + bool(augmentation.get("contrast"))
    for x, labels, made, own in both(root, device, augmentation=augmentation):
        assert torch.equal(labels, own)
        difference = (made - x).abs() * 127.5  # in levels
        assert difference.max() < largest
        assert difference.mean() < 0.3
        assert torch.equal(made == 0, x == 0)


def test_what_is_drawn():
    """Scales in the whole range, every place, a half mirrored; and by seed and number alone."""
    config = Augmentation(crop=20, scale_range=(0.5, 1.5), brightness=0.1, contrast=0.2)
    drawn = [augmentation.draw((40, 60), config, sample_chance(3, n)) for n in range(4000)]
    assert drawn[7] == augmentation.draw((40, 60), config, sample_chance(3, 7))
    heights = np.array([d.height for d in drawn])
    assert set(heights) == set(range(20, 60))
    assert np.mean(heights) == pytest.approx(39.5, abs=0.8)
    assert all(1.5 * d.height - 1 < d.width < 1.5 * (d.height + 1) for d in drawn)
    assert np.mean([d.mirror for d in drawn]) == pytest.approx(0.5, abs=0.04)
    tops = np.array([d.top / (d.height - 20) for d in drawn if d.height > 40])
    assert tops.min() == 0 and tops.max() == 1 and tops.mean() == pytest.approx(0.5, abs=0.03)
    assert max(abs(d.offset) for d in drawn) == pytest.approx(25.5, abs=0.1)
    gains = [d.gain for d in drawn]
    assert (min(gains), max(gains)) == pytest.approx((0.8, 1.2), abs=0.001)


def test_others_are_taken_for_bad_ones(tmp_path):
    """The same as the loader's; and none where the configuration says so."""
    root = write_photographs(tmp_path / "set")
    for name in ("images/02.png", "labels/05.png"):
        (root / name).write_bytes(b"nothing")
    data = {"dataset": "folder", "root": str(root), "on_bad_sample": "skip"}
    found = list(both(root, "cpu", data=data, augmentation={"crop": 33, "scales": [1.0]}))
    assert all(torch.equal(labels, own) for _, labels, _, own in found)
    config, dataset = cases.config_of(root, data=data), open_dataset("folder", root, "train")
    samples = DeviceSamples(dataset, config, CAFFE, torch.device("cpu"))
    assert [name for name, _ in samples.failures] == ["02", "05"]
    with pytest.raises(SampleError, match=r"images/02.png"):
        DeviceSamples(dataset, cases.config_of(root), CAFFE, torch.device("cpu"))


def test_what_fits(root, monkeypatch):
    dataset = open_dataset("folder", root, "train")
    size = 4 * sum(np.prod(dataset.reader.read_arrays(e)[1].shape) for e in dataset.entries)

    def samples(limit):
        data = {"dataset": "folder", "root": str(root), "device_memory": limit}
        return DeviceSamples(dataset, cases.config_of(root, data=data), CAFFE, torch.device("cpu"))

    assert samples(size / 1e9)._pixels.nbytes == size
    with pytest.raises(DoesNotFitError, match=r"take 0.00 GB, and data.device_memory is 1e-06"):
        samples(1e-6)
    place = "deeplab_native.training.device_samples.available_memory"
    monkeypatch.setattr(place, lambda: 2 * size - 1)
    with pytest.raises(DoesNotFitError, match=r"more than half of the .* free on cpu"):
        samples(8.0)
