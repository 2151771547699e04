"""ImageNet weights of MobileNetV2: archives in their layout, written here with random values."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplab_native.models import CAFFE, TENSORFLOW, create_model
from deeplab_native.weights.mobilenet_v2 import load_imagenet_trunk
from python_tests.models import reference_nets as reference

NET = "deeplab_mobilenetv2_largefov"


def random_arrays(dtype=np.float16):
    """Of the trunk, and the two layers after it; in range through all layers."""
    random = np.random.default_rng(0)
    shapes = [*reference.mobilenet_layers(), ("51_conv", (1280, 320, 1, 1))]
    shapes.append(("52_conv", (1001, 1280, 1, 1)))
    arrays = {}
    for name, shape in shapes:
        spread = 1.2 / np.sqrt(np.prod(shape[1:]))
        arrays[f"{name}.weight"] = random.normal(0, spread, shape).astype(dtype)
        arrays[f"{name}.bias"] = random.normal(0.3, 0.5, shape[0]).astype(dtype)
    return arrays


@pytest.fixture(scope="module")
def arrays():
    return random_arrays()


@pytest.fixture(scope="module")
def archive(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def model():
    """A net, and a check that nothing was read into it."""
    net = create_model(NET, 3, seed=0)
    net.preprocessing = CAFFE
    before = {key: value.clone() for key, value in net.state_dict().items()}

    def unchanged():
        state = net.state_dict()
        return net.preprocessing == CAFFE and all(torch.equal(state[k], before[k]) for k in before)

    net.unchanged = unchanged
    return net


def layers_of(arrays):
    return [
        tuple(torch.tensor(arrays[f"{name}.{p}"]).float() for p in ("weight", "bias"))
        for name, _ in reference.mobilenet_layers()
    ]


@torch.no_grad()
def check_against_the_published_net(model, arrays):
    """What remains of the dense map at every 4th pixel is the published net's, at stride 32.

    In sizes of 32 m + 1 every map has an odd size, where TensorFlow's SAME puts a layer of stride
    2 onto the even pixels: 0, 32, 64, ... of the image. For other sizes the two differ in where
    they look, see `models.mobilenet`.
    """
    layers = layers_of(arrays)
    for size in [(65, 65), (33, 97)]:
        x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        strided = reference.mobilenet_features(layers, x, dense=False)
        dense = model.features(x)
        assert strided.shape[2:] == tuple((n - 1) // 32 + 1 for n in size)
        assert dense.shape[2:] == tuple((n - 1) // 8 + 1 for n in size)
        assert strided.std() > 0.1
        error = (dense[:, :, ::4, ::4] - strided).abs().max()
        assert error < 1e-4 * strided.std()


def test_trunk_of_an_archive_is_the_published_net(model, arrays, archive):
    head = {key: v.clone() for key, v in model.state_dict().items() if key.startswith("fc")}
    load_imagenet_trunk(model, archive)
    check_against_the_published_net(model, arrays)
    assert model.preprocessing == TENSORFLOW
    assert all(torch.equal(model.state_dict()[key], value) for key, value in head.items())


def test_imagenet_weights():
    """The real ones, dequantised from an 8-bit model, where they are."""
    path = os.environ.get("DEEPLAB_NATIVE_MOBILENET_V2")
    if path is None:
        pytest.skip("set DEEPLAB_NATIVE_MOBILENET_V2 to an .npz archive of ImageNet weights")
    model = create_model(NET, 3, seed=0)
    load_imagenet_trunk(model, Path(path))
    with np.load(path, allow_pickle=False) as file:
        check_against_the_published_net(model, dict(file))


def test_input_format_of_tensorflow():
    pixel = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    expected = torch.tensor([-1, 127 / 127.5 - 1, 1])  # x / 127.5 - 1, red first
    torch.testing.assert_close(TENSORFLOW(pixel).flatten(), expected)
    with torch.device("meta"):
        assert create_model(NET).preprocessing == TENSORFLOW


def test_the_layers_after_the_trunk_may_be_missing_and_values_are_converted(arrays, tmp_path):
    path = tmp_path / "trunk.npz"
    trunk = {k: v.astype(np.float32) for k, v in arrays.items() if int(k[:2]) < 51}
    np.savez_compressed(path, **trunk)
    model = create_model(NET, 3, seed=0).double()
    load_imagenet_trunk(model, path)
    expected = torch.tensor(arrays["50_conv.weight"]).double()
    assert torch.equal(model.block17.project.weight, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("07_dw.bias"), r"07_dw.bias: missing in the file, \(144,\) in the net"),
        (
            lambda a: a.update({"07_dw.bias": np.zeros(143, np.float16)}),
            r"07_dw.bias: \(143,\) in the file, \(144,\) in the net",
        ),
        (lambda a: a.update(more=np.zeros(3)), "more: in the file, unknown to the net"),
        (
            lambda a: a.update({"50_conv.bias": np.zeros(320, np.int8)}),
            "50_conv.bias: expected float16.*got int8",
        ),
        (
            lambda a: a.update({"50_conv.bias": np.array([None] * 320)}),
            "50_conv.bias: expected float16.*got object",
        ),
        (
            lambda a: a.update({"50_conv.bias": np.full(320, np.nan)}),
            "50_conv.bias: not all values are finite",
        ),
        (
            lambda a: a.update(
                {"00_conv.weight": np.asfortranarray(a["00_conv.weight"])},
            ),
            "00_conv.weight: expected .* in C order, got float16 in Fortran",
        ),
    ],
)
def test_what_does_not_fit_is_listed_and_nothing_read(model, arrays, tmp_path, change, message):
    path, changed = tmp_path / "changed.npz", dict(arrays)
    change(changed)
    changed.pop("11_conv.weight")
    np.savez(path, **changed)
    with pytest.raises(ValueError, match="changed.npz does not fit " + NET) as error:
        load_imagenet_trunk(model, path)
    assert len(str(error.value).splitlines()) == 3
    error.match(message)
    error.match("11_conv.weight: missing")
    assert model.unchanged()


def test_damaged_archives(model, archive, tmp_path):
    data, path = archive.read_bytes(), tmp_path / "damaged.npz"
    for content in (b"", b"PK", data[:1000], data[:-100], bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged.npz is no \.npz archive, or truncated"):
            load_imagenet_trunk(model, path)
    at = data.index(b"\x93NUMPY", 10_000) + 200  # within an array: its checksum fails
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ValueError, match="damaged: Bad CRC-32"):
        load_imagenet_trunk(model, path)
    assert model.unchanged()


def rewritten(archive, path, edit):
    """The archive with its first array changed by `edit`, with checksums that are right."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, edit(content) if name == "00_conv.weight.npy" else content)
    return path


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: b"", "damaged"),
        (lambda c: c[:-1], "damaged: expected 1728 bytes, got 1727"),
        (lambda c: c + b"0", "damaged: expected 1728 bytes, got 1729 or more"),
        (lambda c: c.replace(b"\x93NUMPY", b"\x93NUMPX"), "damaged"),
        (lambda c: c.replace(b"NUMPY\x01", b"NUMPY\x02"), "expected version 1.0"),
        (lambda c: c.replace(b"(32, 3, 3, 3)", b"(99999999999)"), "damaged"),
        (lambda c: c.replace(b"(32, 3, 3, 3)", b"(32, 3, 3, 9)"), r"\(32, 3, 3, 9\) in the file"),
        (lambda c: c.replace(b"'shape'", b"'shope'"), "damaged"),
    ],
)
def test_damaged_arrays(model, archive, tmp_path, edit, message):
    path = rewritten(archive, tmp_path / "edited.npz", edit)
    with pytest.raises(ValueError, match=f"00_conv.weight: {message}"):
        load_imagenet_trunk(model, path)
    assert model.unchanged()


def test_archives_that_lie_about_themselves(model, archive, tmp_path):
    """A place outside of the file, and a method of compression that is not NumPy's."""
    data, path = archive.read_bytes(), tmp_path / "edited.npz"
    entry = data.index(b"PK\x01\x02")  # of the first array, in the directory at the end
    for offset, value in ((42, b"\xff\xff\xff\x7f"), (10, b"\x0e\x00")):
        path.write_bytes(data[: entry + offset] + value + data[entry + offset + len(value) :])
        with pytest.raises(ValueError, match=r"00_conv\.weight: damaged"):
            load_imagenet_trunk(model, path)
    assert model.unchanged()


def test_an_array_that_is_there_twice(model, archive, tmp_path):
    path = tmp_path / "twice.npz"
    path.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("00_conv.bias.npy", b"other")
    with pytest.raises(ValueError, match=r"00_conv.bias: twice in the file"):
        load_imagenet_trunk(model, path)
    assert model.unchanged()


def test_arguments(model, archive, tmp_path):
    with pytest.raises(TypeError, match="model: expected a net on MobileNetV2, got Conv2d"):
        load_imagenet_trunk(torch.nn.Conv2d(3, 3, 1), archive)
    with pytest.raises(ValueError, match=r"path: expected a name ending in \.npz, got"):
        load_imagenet_trunk(model, tmp_path / "weights.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load_imagenet_trunk(model, tmp_path / "none.npz")
    with torch.device("meta"), pytest.raises(ValueError, match="model: a net on the meta device"):
        load_imagenet_trunk(create_model(NET), archive)
