"""ResNet-101 under the names of deeplab-pytorch, isht7, torchvision and Caffe."""

import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deeplab_native import weights
from deeplab_native.models import CAFFE, Preprocessing, create_model
from python_tests.weights.checkpoint_cases import (
    caffe_name,
    constants,
    deeplab_pytorch_names,
    layer,
    named,
    resnet101_forward,
    resnet101_values,
    torchvision_names,
)

ASPP = "deeplab_resnet101_aspp"
CLASSES = 3
PUBLIC_KEYS = re.compile(
    r"base\.(layer1\.conv1"
    r"|layer2\.block[1-3]\.(reduce|conv3x3|increase)"
    r"|layer3\.block[1-4]\.(reduce|conv3x3|increase)"
    r"|layer4\.block([1-9]|1\d|2[0-3])\.(reduce|conv3x3|increase)"
    r"|layer5\.block[1-3]\.(reduce|conv3x3|increase)"
    r"|layer[2-5]\.block1\.shortcut)"
    r"\.(conv\.weight|bn\.(weight|bias|running_mean|running_var|num_batches_tracked))"
    r"|base\.aspp\.c[0-3]\.(weight|bias)"
)
FORMATS = {
    "deeplab-pytorch": (deeplab_pytorch_names, "aspp.c{}"),
    "isht7": (torchvision_names, "layer5.conv2d_list.{}"),
}


@pytest.fixture(scope="module")
def values():
    return resnet101_values(CLASSES)


@pytest.fixture(scope="module")
def simple(values):
    return constants(values)


def public(values):
    """The state dict of a `deeplabv2_resnet101_msc-*.pth`."""
    state = named(values, deeplab_pytorch_names, "aspp.c{}")
    return OrderedDict((f"base.{key}", value) for key, value in state.items())


@pytest.fixture(scope="module")
def expected(simple):
    """Shape and constant by our key."""
    names = {"reduce": "branch2a", "conv3x3": "branch2b", "increase": "branch2c"}
    result = {}
    for key, tensors in simple.items():
        if key[0] == "aspp":
            ours = [f"fc1.c{key[1]}.weight", f"fc1.c{key[1]}.bias"]
        else:
            front = "conv1"
            if key != "stem":
                front = f"res{key[0]}.block{key[1]}.{names.get(key[2], 'branch1')}"
            statistics = ("weight", "bias", "running_mean", "running_var")
            ours = [f"{front}.conv.weight", *(f"{front}.bn.{p}" for p in statistics)]
        result |= dict(zip(ours, tensors, strict=True))
    return first_values(result)


def first_values(tensors):
    return {key: (t.shape, t[(0,) * t.ndim].item()) for key, t in tensors.items()}


def blank(**options):
    """A net whose values are not those of the checkpoint."""
    with torch.device("meta"):
        model = create_model(ASPP, CLASSES, **options)
    model = model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(7)
    return model


def test_public_keys_give_the_scores_of_a_plain_forward(values, tmp_path):
    state = public(values)
    assert len(state) == 632
    assert all(PUBLIC_KEYS.fullmatch(key) for key in state)
    torch.save(state, tmp_path / "any_name")
    model = blank()
    model.preprocessing = Preprocessing("RGB")
    weights.load(model, tmp_path / "any_name")
    assert model.preprocessing == CAFFE
    x = 30 * torch.randn(1, 3, 33, 49)
    with torch.no_grad():
        expected = resnet101_forward(values, x, stride_in_1x1=True)
        scores = model.eval()(x)
    assert expected.std() > 1
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "front", "aspp", "tracked"),
    [
        ("deeplab-pytorch", "scale.", "aspp.stages.c{}", True),
        ("deeplab-pytorch", "module.base.", "aspp.c{}", True),
        ("isht7", "Scale.", "layer5.conv2d_list.{}", False),
        ("isht7", "module.", "layer5.conv2d_list.{}", True),
        ("isht7", "", "layer5.conv2d_list.{}", False),
    ],
)
def test_every_way_to_write_the_names(simple, expected, tmp_path, source, front, aspp, tracked):
    state = named(simple, FORMATS[source][0], aspp, tracked=tracked)
    state = {front + key: value for key, value in state.items()}
    torch.save(state, tmp_path / "file", _use_new_zipfile_serialization=front == "")
    checkpoint = weights.recognise(tmp_path / "file")
    assert checkpoint.source.name == source
    assert first_values(checkpoint.tensors) == expected
    assert not checkpoint.unknown


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_training_checkpoints(simple, expected, tmp_path, wrapper):
    content = {"epoch": 3, wrapper: public(simple), "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "train.pth")
    assert first_values(weights.recognise(tmp_path / "train.pth").tensors) == expected


def test_safetensors_with_public_keys(simple, expected, tmp_path):
    state = {key: value.contiguous() for key, value in public(simple).items()}
    save_file(state, tmp_path / "public.safetensors")
    checkpoint = weights.recognise(tmp_path / "public.safetensors")
    assert checkpoint.source.name == "deeplab-pytorch"
    assert first_values(checkpoint.tensors) == expected


def test_two_state_dicts_in_one_file(tmp_path):
    torch.save({"model": {}, "state_dict": {}}, tmp_path / "train.pth")
    with pytest.raises(ValueError, match="which one is the net's state dict, 'state_dict' or 'mod"):
        weights.load(blank(), tmp_path / "train.pth")


def test_mismatches_in_both_names(simple, tmp_path):
    state = public(simple)
    del state["base.layer1.conv1.bn.bias"]
    state["base.aspp.c0.weight"] = torch.zeros(21, 2048, 3, 3)
    state["base.aspp.c4.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "net.pth")
    model = blank()
    with pytest.raises(ValueError, match=f"net.pth does not fit {ASPP}:") as error:
        weights.load(model, tmp_path / "net.pth")
    assert str(error.value).splitlines()[1:] == [
        "  base.layer1.conv1.bn.bias (our conv1.bn.bias): missing in the file, (64,) in the net",
        "  base.aspp.c0.weight (our fc1.c0.weight): (21, 2048, 3, 3) in the file, "
        "(3, 2048, 3, 3) in the net",
        "  base.aspp.c4.weight: (3,) in the file, unknown to the net",
    ]
    assert all(t.eq(7).all() for t in model.state_dict().values())


def test_weights_and_net_stride_in_the_same_place(simple, tmp_path):
    torch.save(public(simple), tmp_path / "caffe.pth")
    with pytest.raises(ValueError, match=r"strides in the 1 x 1 .* the net in the 3 x 3") as error:
        weights.load(blank(stride_in_1x1=False), tmp_path / "caffe.pth")
    assert f"create_model('{ASPP}', stride_in_1x1=True)" in str(error.value)
    assert str(error.value).count("\n") == 1


def test_coco_weights_start_a_net_with_other_classes(simple, expected, tmp_path):
    """The container of deeplab-pytorch has 91 classes in a 1 x 1 classifier, and no prefix."""
    state = named(simple, deeplab_pytorch_names, "aspp.c{}")
    state = {key: value for key, value in state.items() if not key.startswith("aspp")}
    state |= {"fc.weight": torch.randn(91, 2048, 1, 1), "fc.bias": torch.randn(91)}
    torch.save(state, tmp_path / "coco.pth")
    coco = weights.load_model(tmp_path / "coco.pth")
    assert (coco.name, coco.num_classes) == ("deeplab_resnet101", 91)
    assert torch.equal(coco.fc1.weight, state["fc.weight"])
    model = create_model(ASPP, CLASSES, seed=1)
    drawn = {key: value.clone() for key, value in model.fc1.state_dict().items()}
    weights.load(model, tmp_path / "coco.pth", new_layers="classifier")
    assert all(torch.equal(model.fc1.state_dict()[key], value) for key, value in drawn.items())
    trunk = {k: t for k, t in model.state_dict().items() if not k.startswith("fc1")}
    assert first_values(trunk).items() <= expected.items()


@pytest.fixture(scope="module")
def torchvision(values, tmp_path_factory):
    """resnet101-*.pth: path, and the values with the classifier that the nets draw."""
    state = named(values, torchvision_names, "aspp{}")
    state = {key: value for key, value in state.items() if not key.startswith("aspp")}
    state |= {"fc.weight": torch.randn(1000, 2048), "fc.bias": torch.randn(1000)}
    path = tmp_path_factory.mktemp("torchvision") / "resnet101.pth"
    torch.save(state, path)
    return path


def test_torchvision(values, torchvision):
    model = create_model(ASPP, CLASSES, seed=1, stride_in_1x1=False)
    weights.load(model, torchvision, new_layers="classifier")
    assert model.preprocessing == Preprocessing(
        "RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), scale=1.0
    )
    x = torch.randn(1, 3, 33, 41)
    mine = values | {
        ("aspp", i): (branch.weight, branch.bias) for i, branch in enumerate(model.fc1.branches())
    }
    with torch.no_grad():
        expected = resnet101_forward(mine, x, stride_in_1x1=False)
        torch.testing.assert_close(model.eval()(x), expected, rtol=0, atol=1e-3)


def test_torchvision_needs_its_stride_and_a_new_classifier(torchvision):
    with pytest.raises(ValueError, match=r"strides in the 3 x 3 .* the net in the 1 x 1") as error:
        weights.load(blank(), torchvision)
    assert f"create_model('{ASPP}', stride_in_1x1=False)" in str(error.value)
    assert 'new_layers="classifier" keeps' in str(error.value)
    assert "fc.weight (our fc1.weight): (1000, 2048) in the file, unknown" in str(error.value)
    # the same keys may hold Caffe's weights: nothing tells, so it is for the user to say
    model = blank()
    weights.load(model, torchvision, source="caffe-port", new_layers="classifier")
    assert model.preprocessing == CAFFE


def test_a_trunk_alone_leaves_the_source_open(simple, tmp_path):
    state = named(simple, torchvision_names, "aspp{}")
    state = {key: value for key, value in state.items() if not key.startswith("aspp")}
    torch.save(state, tmp_path / "trunk.pth")
    model = blank()
    with pytest.raises(ValueError, match="does not say by its keys whose weights") as error:
        weights.load(model, tmp_path / "trunk.pth", new_layers="classifier")
    for name in ("isht7", "torchvision", "caffe-port"):
        assert f'source="{name}"' in str(error.value)
    weights.load(model, tmp_path / "trunk.pth", source="isht7", new_layers="classifier")
    assert model.preprocessing == CAFFE
    with pytest.raises(ValueError, match="no keys of deeplab-pytorch "):
        weights.load(model, tmp_path / "trunk.pth", source="deeplab-pytorch")
    with pytest.raises(ValueError, match=r"source: expected one of deeplab_native, .*got 'caffe'"):
        weights.load(model, tmp_path / "trunk.pth", source="caffe")


def test_caffemodel_of_three_scales(simple, expected, tmp_path):
    """Small layers have the copies of the other scales; sums are kept with their count."""
    parts = [layer("data", "Input", [])]
    for key, tensors in simple.items():
        arrays = [t.numpy() for t in tensors]
        if key[0] == "aspp":
            name, copies = f"fc1_voc12_c{key[1]}", ("", "_res075", "_res05")
            parts += [layer(name + c, "Convolution", arrays) for c in copies]
            continue
        names = ("conv1", "bn_conv1", "scale_conv1")
        if key != "stem":
            names = tuple(kind + caffe_name(key) for kind in ("res", "bn", "scale"))
        count = np.array([4.0], np.float32)  # a power of 2: the division is exact
        weight, gamma, beta, mean, var = arrays
        for c in ("", "_res05", "_res075") if key == "stem" else ("",):
            parts += [
                layer(names[0] + c, "Convolution", [weight]),
                layer(names[1] + c, "BatchNorm", [mean * 4, var * 4, count]),
                layer(names[2] + c, "Scale", [gamma, beta]),
            ]
    (tmp_path / "train2_iter_20000").write_bytes(b"".join(parts))
    model = weights.load_model(tmp_path / "train2_iter_20000")
    assert (model.name, model.num_classes, model.preprocessing) == (ASPP, CLASSES, CAFFE)
    assert first_values(model.state_dict()) == expected
    assert all((t == t[(0,) * t.ndim]).all() for t in model.state_dict().values())


def test_export_has_the_public_keys(simple, tmp_path):
    torch.save(public(simple), tmp_path / "public.pth")
    loaded = weights.load_model(tmp_path / "public.pth")
    weights.export_deeplab_pytorch(loaded, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back.keys() == public(simple).keys()
    assert all(
        torch.equal(back[key], value)
        for key, value in public(simple).items()
        if not key.endswith("num_batches_tracked")
    )
    with torch.device("meta"):
        other = create_model("deeplab_resnet101", CLASSES)
    with pytest.raises(ValueError, match="expected deeplab_resnet101_aspp, got deeplab_resnet101"):
        weights.export_deeplab_pytorch(other, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="expected Caffe's input format and stride_in_1x1=True"):
        weights.export_deeplab_pytorch(blank(stride_in_1x1=False), tmp_path / "other.pth")
    assert {p.name for p in tmp_path.iterdir()} == {"public.pth", "back.pth"}
