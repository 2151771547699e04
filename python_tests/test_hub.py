"""Nets to a folder as a hub has it, and back; nothing here needs a network."""

import json
import subprocess
import sys

import pytest
import torch

from deeplab_native import CRFParams
from deeplab_native.models import CAFFE, DeepLab, create_model
from deeplab_native.models.resnet import DeepLabResNet101
from deeplab_native.models.vgg import DeepLabVGG16

NET = "deeplab_resnet101"


@pytest.fixture(scope="module")
def net():
    model = create_model(NET, 3, seed=0, stride_in_1x1=False)
    model.class_names = ("a", "b", "c")
    model.crf = CRFParams(4, 67, 3, 3, 1)
    return model


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    path = tmp_path_factory.mktemp("hub") / "net"
    assert net.save_pretrained(path) is None
    return path


def test_folder(net, folder):
    assert {p.name for p in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    config = json.loads((folder / "config.json").read_text())
    assert config["model"] == NET
    assert config["num_classes"] == 3
    assert config["options"] == {"stride_in_1x1": False}
    assert config["preprocessing"]["channel_order"] == CAFFE.channel_order
    assert config["class_names"] == ["a", "b", "c"]
    assert config["crf"]["sigma_alpha"] == 67
    assert "library_name: deeplab_native" in (folder / "README.md").read_text()


@pytest.mark.parametrize("cls", [DeepLab, DeepLabResNet101])
def test_round_trip(net, folder, cls):
    loaded = cls.from_pretrained(folder)
    assert type(loaded) is type(net)
    assert not loaded.training
    assert (loaded.class_names, loaded.crf, loaded.options) == (
        net.class_names,
        net.crf,
        net.options,
    )
    a, b = loaded.state_dict(), net.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_what_is_pushed(net, monkeypatch):
    """`push_to_hub` hands the same files to huggingface_hub, which would upload them."""
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    seen = {}

    class Api:
        def __init__(self, token=None):
            seen["token"] = token

        def create_repo(self, repo_id, **arguments):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, **arguments):
            seen["files"] = {p.name: p.stat().st_size for p in folder_path.iterdir()}
            return f"https://example.org/{repo_id}"

    monkeypatch.setattr(hub.hub_mixin, "HfApi", Api)
    assert net.push_to_hub("me/net", token="t") == "https://example.org/me/net"
    assert seen["token"] == "t"
    assert seen["files"].keys() == {"README.md", "config.json", "model.safetensors"}
    assert seen["files"]["model.safetensors"] > 4 * 42e6


def test_what_is_not_there(folder, tmp_path, net):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        DeepLab.from_pretrained(tmp_path / "none")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such weights file"):
        DeepLab.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match="is text that begins with 'something else'"):
        DeepLab.from_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"expected a DeepLabVGG16, .* is a DeepLabResNet101"):
        DeepLabVGG16.from_pretrained(folder)


def test_nothing_is_touched_for_a_net_without_memory(folder):
    with torch.device("meta"):
        empty = create_model(NET, 3)
    before = (folder / "config.json").read_bytes()
    with pytest.raises(ValueError, match="no weights to save"):
        empty.save_pretrained(folder)
    assert (folder / "config.json").read_bytes() == before


def test_the_package_works_without_huggingface_hub():
    code = """
import sys
sys.modules["huggingface_hub"] = None  # as if it were not installed
from deeplab_native import models, weights
import torch
with torch.device("meta"):
    net = models.create_model("deeplab_resnet101", 3)
for call in (lambda: models.DeepLab.from_pretrained("a/b"), lambda: net.push_to_hub("a/b")):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("pip install 'deeplab_native[hub]'") == 2
