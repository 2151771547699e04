"""VGG-16 of the authors, and of ImageNet with fc6 and fc7 turned into convolutions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deeplab_native import weights
from deeplab_native.models import CAFFE, Preprocessing, create_model
from deeplab_native.weights.vgg_head import convolutions
from python_tests.weights.checkpoint_cases import layer, v1_layer

CHANNELS = {1: (3, 64, 64), 2: (64, 128, 128), 3: (128, 256, 256, 256)}
CHANNELS |= {4: (256, 512, 512, 512), 5: (512, 512, 512, 512)}
TRUNK = [
    (f"conv{block}_{i + 1}", channels[i], channels[i + 1])
    for block, channels in CHANNELS.items()
    for i in range(len(channels) - 1)
]
FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def trunk_values():
    g = torch.Generator().manual_seed(0)
    return {
        name: (torch.randn(b, a, 3, 3, generator=g) * 0.05, torch.randn(b, generator=g))
        for name, a, b in TRUNK
    }


def head_values():
    """fc6 and fc7: constant over the inputs, or over the filters; they take no room."""
    filters = torch.arange(4096.0)
    return {
        "classifier.0.weight": filters[:, None].expand(4096, 25088),
        "classifier.0.bias": filters,
        "classifier.3.weight": filters[:, None].expand(4096, 4096),
        "classifier.3.bias": filters + 0.5,
        "classifier.6.weight": torch.zeros(1).expand(1000, 4096),
        "classifier.6.bias": torch.zeros(1000),
    }


@pytest.fixture(scope="module")
def trunk():
    return trunk_values()


def torchvision(trunk):
    state = {}
    for i, (name, *_) in zip(FEATURES, TRUNK, strict=True):
        state[f"features.{i}.weight"], state[f"features.{i}.bias"] = trunk[name]
    return state


def has_trunk(model, trunk):
    own = model.state_dict()
    return all(
        torch.equal(own[f"{name}.weight"], weight) and torch.equal(own[f"{name}.bias"], bias)
        for name, (weight, bias) in trunk.items()
    )


def net(name, classes=2):
    with torch.device("meta"):
        model = create_model(name, classes)
    model = model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(7)
    return model


def test_torchvision_largefov(trunk, tmp_path):
    torch.save(torchvision(trunk) | head_values(), tmp_path / "vgg16.pth")
    model = net("deeplab_vgg16_largefov")
    with pytest.raises(ValueError, match="does not fit") as error:
        weights.load(model, tmp_path / "vgg16.pth")
    assert "classifier.6.weight (our fc8.weight): (1000, 4096) in the file, (2, 1024, 1, 1)" in str(
        error.value
    )
    assert str(error.value).count("\n") == 3  # fc8's weight and bias, and what to do
    assert 'new_layers="classifier" keeps those of the net' in str(error.value)
    assert model.conv1_1.weight.eq(7).all()
    weights.load(model, tmp_path / "vgg16.pth", new_layers="classifier")
    assert has_trunk(model, trunk)
    assert model.fc8.weight.eq(7).all()
    assert model.preprocessing == Preprocessing(
        "RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1.0
    )
    chosen = model.fc6.bias.long()
    assert len(set(chosen.tolist())) == 1024
    assert chosen.max() > 3500  # of all 4,096
    assert torch.equal(model.fc6.weight, chosen[:, None, None, None].float().expand(-1, 512, 3, 3))
    assert torch.equal(model.fc7.bias, chosen + 0.5)
    head = {
        key: head_values()[f"classifier.{place}.{p}"]
        for place, layer in ((0, "fc6"), (3, "fc7"))
        for key, p in ((f"{layer}.weight", "weight"), (f"{layer}.bias", "bias"))
    }
    own = {key: empty(*model.state_dict()[key].shape) for key in ("fc6.weight", "fc7.weight")}
    assert torch.equal(convolutions(head, own, seed=0)["fc6.bias"], model.fc6.bias)
    weights.load(model, tmp_path / "vgg16.pth", new_layers="classifier", seed=1)
    assert not torch.equal(model.fc6.bias.long(), chosen)


def test_torchvision_aspp_shares_out_the_filters(trunk, tmp_path):
    torch.save(torchvision(trunk) | head_values(), tmp_path / "vgg16.pth")
    model = net("deeplab_vgg16_aspp_l")
    weights.load(model, tmp_path / "vgg16.pth", new_layers="classifier")
    branches = [getattr(model, f"fc6_{i}").bias for i in (1, 2, 3, 4)]
    assert torch.equal(torch.cat(branches).sort().values, torch.arange(4096.0))
    for i, chosen in enumerate(branches, start=1):
        assert torch.equal(getattr(model, f"fc7_{i}").bias, chosen + 0.5)
        assert getattr(model, f"fc8_{i}").weight.eq(7).all()


def empty(*shape):
    return torch.empty(shape, device="meta")


@pytest.mark.parametrize(
    ("filters", "taps"), [(1024, [0, 3, 6]), (4096, [0, 2, 4, 6]), (4096, list(range(7)))]
)
def test_decimation(filters, taps):
    """Values name their input: channel, row and column of the 7 x 7 taps."""
    k = len(taps)
    head = {
        "fc6.weight": torch.arange(25088.0).expand(4096, 25088),
        "fc6.bias": torch.arange(4096.0),
        "fc7.weight": torch.arange(4096.0).expand(4096, 4096),
        "fc7.bias": torch.arange(4096.0),
    }
    own = {"fc6.weight": empty(filters, 512, k, k), "fc7.weight": empty(filters, filters, 1, 1)}
    found = convolutions(head, own, seed=0)
    expected = torch.tensor([[[c * 49 + y * 7 + x for x in taps] for y in taps] for c in (0, 511)])
    assert found["fc6.weight"].shape == (filters, 512, k, k)
    for filter in (0, filters - 1):
        assert torch.equal(found["fc6.weight"][filter, [0, 511]], expected.float())
    # fc7's inputs are the filters of fc6 that are there, its filters the same ones
    assert found["fc7.weight"].shape == (filters, filters, 1, 1)
    assert torch.equal(found["fc7.weight"][5, :, 0, 0], found["fc6.bias"])
    assert torch.equal(found["fc7.bias"], found["fc6.bias"])
    if filters == 4096:
        assert torch.equal(found["fc6.bias"], torch.arange(4096.0))


def test_the_7x7_convolution_is_the_matrix():
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 25088, generator=g).expand(4096, -1)
    bias = torch.randn(4096, generator=g)
    head = {"fc6.weight": weight, "fc6.bias": bias}
    head |= {"fc7.weight": torch.zeros(1).expand(4096, 4096), "fc7.bias": bias}
    own = {"fc6.weight": empty(4096, 512, 7, 7)}
    found = convolutions(head, own, seed=0)
    x = torch.randn(1, 512, 7, 7, generator=g)
    expected = F.linear(x.flatten(1), weight[:5], bias[:5])
    y = F.conv2d(x, found["fc6.weight"][:5], found["fc6.bias"][:5])
    torch.testing.assert_close(y[:, :, 0, 0], expected, rtol=1e-4, atol=1e-3)


def test_kernels_that_are_no_decimation_are_left_to_the_mismatches():
    own = {"fc6.weight": empty(1024, 512, 5, 5)}
    assert (
        convolutions({key: empty(*s) for key, s in weights.vgg_head.HEAD_KEYS.items()}, own, 0)
        == {}
    )


@pytest.mark.parametrize("taps", [4, 5])
def test_a_net_with_other_taps(trunk, tmp_path, taps):
    """The conversion follows the net's own names and shapes."""
    torch.save(torchvision(trunk) | head_values(), tmp_path / "vgg16.pth")
    model = net("deeplab_vgg16_largefov")
    filters = 4096 if taps == 4 else 8
    model.fc6 = nn.Conv2d(512, filters, taps)
    model.fc7 = nn.Conv2d(filters, filters, 1)
    model.fc8 = nn.Conv2d(filters, 2, 1)
    if taps == 5:
        with pytest.raises(ValueError, match="does not fit") as error:
            weights.load(model, tmp_path / "vgg16.pth", new_layers="classifier")
        assert "(our fc6.weight): (4096, 25088) in the file, (8, 512, 5, 5)" in str(error.value)
        return
    weights.load(model, tmp_path / "vgg16.pth", new_layers="classifier")
    filters = torch.arange(4096.0)
    assert torch.equal(model.fc6.weight, filters[:, None, None, None].expand(-1, 512, 4, 4))
    assert torch.equal(model.fc7.bias, filters + 0.5)


def test_features_without_a_classifier(trunk, tmp_path):
    state = torchvision(trunk)
    torch.save(state, tmp_path / "features.pth")
    model = net("deeplab_vgg16_largefov")
    with pytest.raises(ValueError, match="does not say by its keys whose weights it has") as error:
        weights.load(model, tmp_path / "features.pth", new_layers="head")
    for name in ("torchvision", "torchvision-features", "caffe-port"):
        assert f'source="{name}"' in str(error.value)
    weights.load(model, tmp_path / "features.pth", source="caffe-port", new_layers="head")
    assert model.preprocessing == CAFFE
    # IMAGENET1K_FEATURES has a classifier of values that are none
    nan = torch.tensor(torch.nan)
    values_of_none = {key: nan.expand(value.shape) for key, value in head_values().items()}
    torch.save(state | values_of_none, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"fc6.weight\): missing in the file") as error:
        weights.load(model, tmp_path / "file.pth", new_layers="classifier")
    assert 'new_layers="head" keeps the net\'s own' in str(error.value)
    model = net("deeplab_vgg16_largefov")
    weights.load(model, tmp_path / "file.pth", new_layers="head")
    assert has_trunk(model, trunk)
    assert all(p.eq(7).all() for key, p in model.named_parameters() if key.startswith("fc"))
    # mean taken away from RGB of 0..255
    pixels = torch.tensor([[[[255]], [[0]], [[100]]]], dtype=torch.uint8)
    expected = [255 - 122.99925, -116.9991, 100 - 103.9992]
    assert model.preprocessing(pixels).flatten().tolist() == pytest.approx(expected, abs=1e-3)


def test_layers_that_may_be_new():
    with pytest.raises(ValueError, match="new_layers: expected None or one of classifier, head"):
        weights.load(net("deeplab_vgg16_largefov"), "file", new_layers="fc8")


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_caffemodel_of_largefov(trunk, tmp_path, version):
    def write(name, weight, bias):
        if version == "V1":
            return v1_layer(name, 4, [weight, bias])
        return layer(name, "Convolution", [weight, bias])

    g = np.random.default_rng(0)
    head = {
        "fc6": g.random((1024, 512, 3, 3), np.float32),
        "fc7": g.random((1024, 1024, 1, 1), np.float32),
        "fc8_voc12": g.random((2, 1024, 1, 1), np.float32),
    }
    parts = [write(name, w.numpy(), b.numpy()) for name, (w, b) in trunk.items()]
    parts += [write(name, w, g.random(len(w), np.float32)) for name, w in head.items()]
    path = tmp_path / "train_iter_6000.caffemodel"
    path.write_bytes(b"".join(parts))
    model = weights.load_model(path)
    assert (model.name, model.num_classes) == ("deeplab_vgg16_largefov", 2)
    assert has_trunk(model, trunk)
    for name, weight in head.items():
        assert torch.equal(getattr(model, name[:3]).weight, torch.from_numpy(weight))
    assert model.preprocessing == CAFFE


def test_aspp_s_or_l_must_be_said(tmp_path):
    with torch.device("meta"):
        shapes = create_model("deeplab_vgg16_aspp_s", 2).state_dict()
    state = {key: torch.zeros(1).expand(t.shape) for key, t in shapes.items()}
    torch.save(state, tmp_path / "aspp.pth")
    with pytest.raises(ValueError, match="fits several nets") as error:
        weights.load_model(tmp_path / "aspp.pth", preprocessing=CAFFE)
    assert "expected one of deeplab_vgg16_aspp_s, deeplab_vgg16_aspp_l" in str(error.value)
    with pytest.raises(ValueError, match=r"preprocessing: .* does not say its input format"):
        weights.load_model(tmp_path / "aspp.pth", "deeplab_vgg16_aspp_l")
    model = weights.load_model(tmp_path / "aspp.pth", "deeplab_vgg16_aspp_l", preprocessing=CAFFE)
    assert (model.name, model.num_classes) == ("deeplab_vgg16_aspp_l", 2)
