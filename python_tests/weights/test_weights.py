"""Weights files: whole or not at all, strict, and without code execution."""

import os
import tarfile
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from deeplab_native import weights
from deeplab_native.layers import AtrousConv2d, FrozenBatchNorm2d
from deeplab_native.models import DeepLab, Preprocessing, create_model

NET = "deeplab_resnet101"


class SmallNet(DeepLab):
    def __init__(self, seed, name="small", num_classes=3, **options):
        super().__init__(name, num_classes, options=options)
        self.conv1 = AtrousConv2d(3, 64, 7)
        self.bn1 = FrozenBatchNorm2d(64)
        self.fc1 = AtrousConv2d(64, num_classes, 1)
        self.reset_parameters(torch.Generator().manual_seed(seed))

    def classifiers(self):
        return [self.fc1]


@pytest.fixture
def net():
    return SmallNet(0)


@pytest.fixture
def saved(net, tmp_path):
    path = tmp_path / "saved" / "net.safetensors"
    path.parent.mkdir()
    weights.save(net, path)
    return path


@pytest.fixture
def other():
    """Another net, and a check that it is still what it was."""
    model = SmallNet(1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.unchanged = lambda: same(before, model.state_dict())
    return model


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_round_trip(net, saved, other):
    weights.load(other, saved)
    assert same(other.state_dict(), net.state_dict())
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_round_trip_of_a_registered_net(tmp_path):
    net, path = create_model(NET, 3, seed=0), tmp_path / "net.safetensors"
    net.preprocessing = Preprocessing("RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1.0)
    weights.save(net, path)
    loaded = create_model(NET, 3, weights=path)
    assert same(loaded.state_dict(), net.state_dict())
    # the input format travels with the weights
    assert loaded.preprocessing == net.preprocessing
    assert weights.read_metadata(path) == weights.Metadata(
        NET, 3, {"stride_in_1x1": True}, net.preprocessing
    )
    with pytest.raises(ValueError, match="num_classes: 3 in the file, 21 in the net"):
        create_model(NET, weights=path)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_state_dict_of_torch(net, other, tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    torch.save(net.state_dict(), path)
    weights.load(other, path)
    assert same(other.state_dict(), net.state_dict())


def test_values_take_the_dtype_of_the_net(net, other, tmp_path):
    halved = OrderedDict((key, value.half()) for key, value in net.state_dict().items())
    torch.save(halved, tmp_path / "half.pth")
    weights.load(other, tmp_path / "half.pth")
    assert other.fc1.weight.dtype == torch.float32
    torch.testing.assert_close(other.fc1.weight, net.fc1.weight, atol=1e-3, rtol=1e-3)


def test_channels_last_weights_are_saved(net, other, tmp_path):
    weights.save(SmallNet(0).to(memory_format=torch.channels_last), tmp_path / "net.safetensors")
    weights.load(other, tmp_path / "net.safetensors")
    assert same(other.state_dict(), net.state_dict())


def test_every_mismatch_is_listed_and_nothing_loaded(net, other, tmp_path):
    state = net.state_dict()
    del state["conv1.weight"]
    state["fc1.weight"] = torch.zeros(4, 64, 1, 1)
    state["fc1.bias"] = torch.zeros(3, dtype=torch.int64)
    state["fc2.weight"] = torch.zeros(5)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="does not fit small") as error:
        weights.load(other, tmp_path / "net.pth")
    for line in (
        "conv1.weight: missing in the file, (64, 3, 7, 7) in the net",
        "fc1.weight: (4, 64, 1, 1) in the file, (3, 64, 1, 1) in the net",
        "fc1.bias: torch.int64 in the file, expected floating point",
        "fc2.weight: (5,) in the file, unknown to the net",
    ):
        assert line in str(error.value)
    assert str(error.value).count("\n") == 4
    assert other.unchanged()


def test_nets_with_equal_shapes_are_told_apart(saved):
    with pytest.raises(ValueError, match="net: small in the file, other_rates in the net"):
        weights.load(SmallNet(1, name="other_rates"), saved)
    with pytest.raises(ValueError, match=r"options: {} in the file, {'stride_in_1x1': False} in"):
        weights.load(SmallNet(1, stride_in_1x1=False), saved)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("keep", [0, 5, 300, -300])
def test_truncated_files(net, saved, other, tmp_path, suffix, keep):
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(net.state_dict(), whole)
    else:
        whole = saved
    path = tmp_path / f"part{suffix}"
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(ValueError, match="or truncated"):
        weights.load(other, path)
    assert other.unchanged()


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_not_run(other, tmp_path):
    torch.save({"fc1.weight": Attack(tmp_path / "attacked")}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="no state dict of plain tensors") as error:
        weights.load(other, tmp_path / "net.pth")
    assert not (tmp_path / "attacked").exists()
    assert "weights_only" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "expected a state dict, got list"),
        ({"epochs": {"fc1.weight": torch.zeros(1)}}, "got dict at 'epochs'"),
        ({"state_dict": {"a": {"b": 3}}}, "got dict at 'a' at 'state_dict'"),
        ({3: torch.zeros(1)}, "got Tensor at 3"),
        ({"state_dict": {"model": {"net": {"model": {"net": {}}}}}}, "got dict at 'net' at 'st"),
        (
            {"layer.weight": torch.zeros(1)},
            r"has no keys of deeplab_native, .* \(its keys: layer.weight\)",
        ),
        ({}, "its keys: none at all"),
    ],
)
def test_other_content(other, tmp_path, content, message):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=message):
        weights.load(other, tmp_path / "net.pth")


def test_safetensors_of_others_have_no_input_format(net, other, tmp_path):
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"was not written by deeplab_native\.weights\.save"):
        weights.load(other, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"was not written by deeplab_native\.weights\.save"):
        weights.read_metadata(tmp_path / "net.safetensors")
    assert other.unchanged()
    weights.load(other, tmp_path / "net.safetensors", source="deeplab_native")
    assert same(other.state_dict(), net.state_dict())
    save_file(net.state_dict(), tmp_path / "net.safetensors", {"format": "deeplab_native/2"})
    with pytest.raises(ValueError, match="format deeplab_native/2, expected deeplab_native/1"):
        weights.load(other, tmp_path / "net.safetensors")
    damaged = {"format": "deeplab_native/1", "model": "small", "num_classes": "three"}
    save_file(net.state_dict(), tmp_path / "net.safetensors", damaged)
    with pytest.raises(ValueError, match="damaged metadata"):
        weights.read_metadata(tmp_path / "net.safetensors")


def test_paths(net, other, tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a name ending in \.safetensors, got"):
        weights.save(net, tmp_path / "net.pth")
    for name in ("none.safetensors", "none.pth", "none"):
        with pytest.raises(FileNotFoundError, match=name):
            weights.load(other, tmp_path / name)
    (tmp_path / "folder.pth").mkdir()
    for folder in (tmp_path, tmp_path / "folder.pth"):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            weights.load(other, folder)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is no regular file"):
        weights.load(other, tmp_path / "pipe")


def test_saving_follows_a_symbolic_link(net, saved, other, tmp_path):
    link = tmp_path / "link.safetensors"
    link.symlink_to(saved)
    weights.save(other, link)
    assert link.is_symlink()
    weights.load(net, saved)
    assert same(net.state_dict(), other.state_dict())
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        weights.save(net, tmp_path / "folder.safetensors")


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_saved_files_have_the_mode_of_any_new_file(net, tmp_path, umask):
    before = os.umask(umask)
    try:
        weights.save(net, tmp_path / "net.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "net.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failed_save_leaves_the_old_file(net, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save(net, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OSError):
        weights.save(net, tmp_path / "missing" / "net.safetensors")


def test_meta_nets_have_no_weights(saved, tmp_path):
    with torch.device("meta"):
        model = create_model(NET)
        with pytest.raises(ValueError, match="weights: a net on the meta device"):
            create_model(NET, weights=saved)
    with pytest.raises(ValueError, match="no memory"):
        weights.load(model, saved)
    with pytest.raises(ValueError, match="no weights to save"):
        weights.save(model, tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    ("bias", "problem"),
    [
        (torch.zeros(3).to_sparse(), "torch.sparse_coo in the file, expected plain floating point"),
        (torch.zeros(3, dtype=torch.float8_e4m3fn), "torch.float8_e4m3fn in the file"),
        (torch.zeros(3, dtype=torch.complex64), "torch.complex64 in the file, expected floating"),
        (torch.zeros(3, device="meta"), "on the meta device in the file"),
    ],
)
def test_values_that_cannot_be_copied(net, other, tmp_path, bias, problem):
    torch.save(net.state_dict() | {"fc1.bias": bias}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=f"fc1.bias: {problem}"):
        weights.load(other, tmp_path / "net.pth")
    assert other.unchanged()


def test_compressed_files_are_not_unpacked(net, other, tmp_path):
    """A file of a megabyte could unpack to a gigabyte."""
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with (
        zipfile.ZipFile(tmp_path / "net.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            content = plain.read(entry)
            empty = bytes(len(content)) if "/data/" in entry.filename else content
            bomb.writestr(entry.filename, empty)
    with pytest.raises(ValueError, match="is no state dict of plain tensors, or truncated"):
        weights.load(other, tmp_path / "bomb.pth")
    assert other.unchanged()


def test_the_tar_format_of_the_first_versions(other, tmp_path):
    with tarfile.open(tmp_path / "old.pth", "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="is in the tar format of the first PyTorch versions"):
        weights.load(other, tmp_path / "old.pth")
    assert other.unchanged()
