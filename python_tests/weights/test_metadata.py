"""What a weights file of ours says beside its tensors, and the net that it makes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from deeplab_native import CRFParams, weights
from deeplab_native.models import CAFFE, Preprocessing, create_model

NET = "deeplab_resnet101"
NAMES = ("background", "chat", "Hund und Katze", "犬")
COLOURS = ((0, 0, 0), (255, 0, 0), (1, 2, 3), (128, 64, 255))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    net = create_model(NET, 4, seed=0, stride_in_1x1=False)
    net.preprocessing = Preprocessing("RGB", (1, 2, 3), (4, 5, 6), 1.0)
    net.class_names = NAMES
    net.palette = np.array(COLOURS, np.uint8)
    net.scales = (1.0, 0.5)
    net.crf = CRFParams(torch.tensor(4.5, requires_grad=True), 67, 3, 3, 1)
    path = tmp_path_factory.mktemp("saved") / "net.safetensors"
    weights.save(net, path)
    return path


def small(path, **header):
    """A file with these entries of its header changed, or left out where None."""
    whole = {"format": "deeplab_native/1", "model": NET, "num_classes": "4", "options": "{}"}
    whole |= {"preprocessing": "{}", **header}
    entries = {k: v if isinstance(v, str) else json.dumps(v) for k, v in whole.items() if v != ()}
    save_file({"fc1.bias": torch.zeros(4)}, path, entries)
    return path


def test_everything_comes_back(saved):
    metadata = weights.read_metadata(saved)
    assert metadata == weights.Metadata(
        model=NET,
        num_classes=4,
        options={"stride_in_1x1": False},
        preprocessing=Preprocessing("RGB", (1, 2, 3), (4, 5, 6), 1.0),
        class_names=NAMES,
        palette=COLOURS,
        crf=CRFParams(4.5, 67, 3, 3, 1),
        scales=(1.0, 0.5),
    )


def test_sigmas_of_each_channel_come_back(tmp_path):
    net = create_model(NET, 4, seed=0)
    net.crf = CRFParams(4, (67, 60.5), [3, 4, 5], 3, 1)
    weights.save(net, tmp_path / "net.safetensors")
    assert weights.load_model(tmp_path / "net.safetensors").crf == net.crf


def test_the_same_net_has_the_same_bytes(tmp_path):
    """The order in safetensors' header is another each time, so several files would differ."""
    net = create_model(NET, 2, seed=0)
    net.class_names, net.crf = ("nothing", "犬"), CRFParams()
    files = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for path in files:
        weights.save(net, path, dtype=torch.float16)
    assert len({path.read_bytes() for path in files}) == 1
    assert weights.read_metadata(files[0]).class_names == net.class_names


def test_the_net_of_a_file(saved):
    net = weights.load_model(saved)
    assert (net.name, net.num_classes, net.options) == (NET, 4, {"stride_in_1x1": False})
    assert (net.class_names, net.palette, net.crf.w1) == (NAMES, COLOURS, 4.5)
    assert net.preprocessing.std == (4, 5, 6)
    assert net.scales == (1.0, 0.5)
    assert weights.load_model(saved, scales=(1.0,)).scales == (1.0,)
    with safe_open(saved, "pt") as file:
        assert torch.equal(net.fc1.weight, file.get_tensor("fc1.weight"))
    with pytest.raises(ValueError, match=r"options: {'stride_in_1x1': False} in the file, "):
        weights.load_model(saved, stride_in_1x1=True)
    with pytest.raises(ValueError, match="brings its own input format, expected None"):
        weights.load_model(saved, preprocessing=CAFFE)
    with torch.device("meta"), pytest.raises(ValueError, match="no memory to read weights into"):
        weights.load_model(saved)


def test_a_new_classifier_has_no_old_names(saved):
    net = create_model("deeplab_resnet101_aspp", 7, seed=0, stride_in_1x1=False)
    drawn = net.fc1.c2.weight.clone()
    with pytest.raises(ValueError, match="net: deeplab_resnet101 in the file") as error:
        weights.load(net, saved)
    assert "num_classes: 4 in the file, 7 in the net" in str(error.value)
    weights.load(net, saved, new_layers="classifier")
    assert torch.equal(net.fc1.c2.weight, drawn)
    assert net.class_names is None
    assert net.crf is None
    assert net.preprocessing.mean == (1, 2, 3)
    with pytest.raises(ValueError, match=r"num_classes: expected a number, as the classifier"):
        weights.load_model(saved, NET, new_layers="classifier")
    with pytest.raises(
        ValueError, match=r"name: .* fits several nets; expected one of deeplab_res"
    ):
        weights.load_model(saved, new_layers="classifier")


def test_files_of_before_have_no_names(tmp_path):
    metadata = weights.read_metadata(small(tmp_path / "old.safetensors"))
    assert metadata == weights.Metadata(NET, 4, {}, CAFFE)


@pytest.mark.parametrize(
    ("entry", "value", "problem"),
    [
        ("model", (), "KeyError"),
        ("num_classes", "four", "invalid literal"),
        ("options", [1], "options: expected a dictionary, got list"),
        ("options", "[" * 100_000, "RecursionError"),
        ("preprocessing", {"mean": [1, 2]}, "mean: expected three numbers"),
        ("preprocessing", {"mean": [1, 2, float("nan")]}, "mean: expected finite numbers"),
        ("preprocessing", {"scale": 10**400}, "OverflowError"),
        ("preprocessing", {"gamma": 1}, "unexpected keyword argument"),
        ("class_names", ["a", "b"], "class_names: expected one for each of 4 classes, got 2"),
        ("class_names", "abcd", "JSONDecodeError"),
        ("class_names", '"abcd"', "class_names: expected strings, got 'abcd'"),
        ("class_names", [1, 2, 3, 4], "class_names: expected strings"),
        ("palette", [[0, 0, 0]], "palette: expected a colour for each of 4 classes, got 1"),
        ("palette", [[0, 0, 256]] * 4, r"palette: expected colours \(r, g, b\) of 0..255"),
        ("palette", [[0, 0]] * 4, r"palette: expected colours \(r, g, b\) of 0..255"),
        ("palette", [0] * 4, "TypeError"),
        ("crf", {"w1": 1}, "sigma_alpha, sigma_beta, w2, sigma_gamma missing"),
        ("crf", {"w1": 1, "sigma_alpha": -1, "sigma_beta": 1, "w2": 1, "sigma_gamma": 1}, "alpha"),
        ("crf", [1], "CRFParams"),
        ("scales", [0.5], "scales: expected"),
        ("scales", ["a"], "scales"),
    ],
)
def test_damaged_entries(tmp_path, entry, value, problem):
    path = small(tmp_path / "net.safetensors", **{entry: value})
    with pytest.raises(ValueError, match=f"net.safetensors has damaged metadata: .*{problem}"):
        weights.read_metadata(path)


@pytest.mark.parametrize(
    ("attribute", "value", "error"),
    [
        ("class_names", ("a",), ValueError),
        ("class_names", "abcd", TypeError),
        ("palette", ((0, 0, 0),), ValueError),
        ("palette", ((0, 0, -1),) * 4, ValueError),
        ("crf", "voc-resnet101", TypeError),
    ],
)
def test_attributes_of_another_form_are_not_saved(tmp_path, attribute, value, error):
    net = create_model(NET, 4, seed=0)
    setattr(net, attribute, value)
    with pytest.raises(error, match=f"{attribute}: expected"):
        weights.save(net, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_making_a_net_imports_no_sympy():
    """As `empty_like` of meta tensors does, in 0.35 s."""
    code = (
        "import sys, torch; before = 'sympy' in sys.modules\n"
        "from deeplab_native import weights; weights.load_model(weights.EMBEDDED)\n"
        "assert before or 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
