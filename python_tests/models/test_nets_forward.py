"""Forward passes of the nets against `reference_nets`, on the same random weights."""

import pytest
import torch

from deeplab_native.layers import FrozenBatchNorm2d
from deeplab_native.models import create_model
from python_tests.models import reference_nets as reference

SIZES = [(65, 65), (70, 94)]


def random_input(size, batch=1):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def check_close(ours, expected):
    """To 1e-4 of the map's own spread, which is about 1 for features."""
    assert ours.shape == expected.shape
    error = (ours - expected).abs().max() / expected.std()
    assert error < 1e-4


def randomise_norms(model):
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for value in (module.weight.data, module.running_var):
                value.uniform_(0.8, 1.2, generator=generator)
            for value in (module.bias.data, module.running_mean):
                value.normal_(std=0.1, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("kind", reference.VGG_HEADS)
def test_vgg(kind):
    model = create_model(f"deeplab_vgg16_{kind}", 5, seed=0).eval()
    state = model.state_dict()
    for size in SIZES[:1] if kind == "7x7" else SIZES:  # 7x7 has half a gigabyte of weights
        x = random_input(size)
        features = reference.vgg_features(state, x)
        check_close(model.features(x), features)
        check_close(model(x), reference.head(state, features, kind))


@torch.no_grad()
@pytest.mark.parametrize("stride_in_1x1", [True, False])
@pytest.mark.parametrize("kind", reference.RESNET_HEADS)
def test_resnet(kind, stride_in_1x1):
    model = create_model(f"deeplab_resnet101{kind}", 5, seed=0, stride_in_1x1=stride_in_1x1)
    randomise_norms(model)
    state = model.state_dict()
    for size in SIZES:
        x = random_input(size)
        features = reference.resnet_features(state, x, stride_in_1x1=stride_in_1x1)
        check_close(model.features(x), features)
        check_close(model(x), reference.resnet_scores(state, features, kind))
    # with the stride in the other place the same weights fit, and give something else
    other = reference.resnet_features(state, x, stride_in_1x1=not stride_in_1x1)
    assert (other - features).abs().max() > 0.1 * features.std()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["largefov", "aspp_s", "aspp_l"])
def test_mobilenet(kind):
    model = create_model(f"deeplab_mobilenetv2_{kind}", 5, seed=0).eval()
    state = model.state_dict()
    layers = [(layer.weight, layer.bias) for layer in model.trunk()]
    for size in SIZES:
        x = random_input(size)
        features = reference.mobilenet_features(layers, x, dense=True, pad=reference.symmetric)
        check_close(model.features(x), features)
        check_close(model(x), reference.head(state, features, kind))


@torch.no_grad()
def test_mobilenet_pads_as_its_weights_expect_in_sizes_of_8m_plus_1():
    """There, TensorFlow's SAME has a zero on either side of every layer of stride 2, as we have."""
    model = create_model("deeplab_mobilenetv2_largefov", 5, seed=0)
    layers = [(layer.weight, layer.bias) for layer in model.trunk()]
    for size in [(65, 65), (73, 105)]:
        x = random_input(size)
        check_close(model.features(x), reference.mobilenet_features(layers, x, dense=True))


@pytest.fixture(
    scope="module",
    params=["deeplab_resnet101_aspp", "deeplab_mobilenetv2_largefov", "deeplab_vgg16_largefov"],
)
def net_of_three_scales(request):
    return create_model(request.param, 5, seed=0, scales=(1.0, 0.75, 0.5)).eval()


@torch.no_grad()
@pytest.mark.parametrize("size", [(38, 62), (33, 49)])
def test_multi_scale(net_of_three_scales, size):
    """Each scale from an input of its size, interpolated to the map of scale 1; the maximum."""
    model = net_of_three_scales
    name, state = model.name, model.state_dict()

    def scores(x):
        if "resnet" in name:
            features = reference.resnet_features(state, x, stride_in_1x1=True)
            return reference.resnet_scores(state, features, "_aspp")
        if "vgg" in name:
            return reference.head(state, reference.vgg_features(state, x), "largefov")
        layers = [(layer.weight, layer.bias) for layer in model.trunk()]
        features = reference.mobilenet_features(layers, x, dense=True, pad=reference.symmetric)
        return reference.head(state, features, "largefov")

    x = random_input(size, batch=2)
    whole = scores(x)
    three_quarters = scores(reference.interpolate(x, [(n - 1) // 4 * 3 + 1 for n in size]))
    half = scores(reference.interpolate(x, [(n - 1) // 2 + 1 for n in size]))
    grid = whole.shape[2:]
    upsampled = reference.interpolate(three_quarters, grid)
    expected = torch.stack([whole, upsampled, reference.interpolate(half, grid)]).amax(0)

    ours, scales = model(x), model.multi_scale(x)
    check_close(ours, expected)
    assert torch.equal(scales.fused, ours)
    for branch, reference_branch in zip(scales.branches, [whole, upsampled, half], strict=True):
        check_close(branch, reference_branch)
    assert (scales.strides, scales.output_stride) == ((8, 8, 16), 8)
