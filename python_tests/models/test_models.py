"""Structure of the nets against the paper and the authors' net definitions."""

import numpy as np
import pytest
import torch
from torch import nn

from deeplab_native.layers import ASPP, AtrousConv2d, FrozenBatchNorm2d
from deeplab_native.models import create_model, list_models
from python_tests.models.reference_nets import head_parameters, mobilenet_trunk_parameters

CLASSES = (21, 60, 7, 19)
PARAMETERS = {  # by number of classes, from the paper and the authors' net definitions
    "deeplab_vgg16_7x7": (134346581, 134506364, 134289223, 134338387),
    "deeplab_vgg16_4x4": (65140565, 65300348, 65083207, 65132371),
    "deeplab_vgg16_4x4_r8": (65140565, 65300348, 65083207, 65132371),
    "deeplab_vgg16_largefov": (20505429, 20545404, 20491079, 20503379),
    "deeplab_vgg16_aspp_s": (37877652, 38037552, 37820252, 37869452),
    "deeplab_vgg16_aspp_l": (37877652, 38037552, 37820252, 37869452),
    "deeplab_resnet101": (42543189, 42623100, 42514503, 42539091),
    "deeplab_resnet101_largefov": (42887253, 43606140, 42629191, 42850387),
    "deeplab_resnet101_aspp": (44048532, 46924080, 43016284, 43901068),
    **{
        f"deeplab_mobilenetv2_{kind}": tuple(
            mobilenet_trunk_parameters() + head_parameters(kind, 320, n) for n in CLASSES
        )
        for kind in ("largefov", "aspp_s", "aspp_l")
    },
    "deeplab_mobilenetv2_aspp": tuple(
        mobilenet_trunk_parameters() + 4 * (9 * 320 + 1) * n for n in CLASSES
    ),
}
NAMES = list(PARAMETERS)
INFO = {info.name: info for info in list_models()}


def on_meta(name, num_classes=21, **options):
    with torch.device("meta"):
        return create_model(name, num_classes, **options)


@pytest.mark.parametrize("name", NAMES)
def test_number_of_parameters(name):
    for num_classes, expected in zip(CLASSES, PARAMETERS[name], strict=True):
        assert INFO[name].parameters(num_classes) == expected
    assert sum(p.numel() for p in on_meta(name).parameters()) == PARAMETERS[name][0]


def test_parameters_of_mobilenet():
    """The published net has 3,504,872: 1.0 wide, 1,000 classes, batch normalisation with two
    numbers a channel (17,056 channels) where we have a bias. Less its last two layers."""
    last = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert mobilenet_trunk_parameters() == 3_504_872 - last - (17_056 - 1280)


def test_registry_lists_all():
    assert list(INFO) == NAMES
    assert {info.output_stride for info in INFO.values()} == {8}
    fields = [224, 128, 224, *[224, 224, 416], *[32, 224, 416], *[224, 224, 416], 416]
    assert [INFO[name].field_of_view for name in NAMES] == fields
    for info in INFO.values():
        assert info.paper_row.startswith("not in" if "mobilenet" in info.name else "Table ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "expected"), [(321, 41), (513, 65), (97, 13), (1, 1)])
def test_score_map_is_an_eighth(name, size, expected):
    model = on_meta(name, 5)
    scores = model(torch.empty(1, 3, size, size + 8, device="meta"))
    assert scores.shape == (1, 5, expected, expected + 1)


# Caffe's pools round up, its convolutions down; MobileNetV2 has no pools
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("deeplab_vgg16_largefov", {320: 41, 322: 42, 98: 14, 16: 3}),
        ("deeplab_resnet101_aspp", {320: 41, 326: 41, 327: 42, 98: 13}),
        ("deeplab_mobilenetv2_aspp_s", {320: 40, 321: 41, 328: 41, 98: 13}),
    ],
)
def test_score_map_of_other_sizes(name, sizes):
    model = on_meta(name)
    for size, expected in sizes.items():
        assert model(torch.empty(1, 3, size, 97, device="meta")).shape[2:] == (expected, 13)


@pytest.mark.parametrize(
    "name", ["deeplab_vgg16_aspp_l", "deeplab_resnet101_aspp", "deeplab_mobilenetv2_aspp_s"]
)
def test_real_forward_and_backward(name):
    model = create_model(name, 4, seed=0)
    scores = model(30 * torch.randn(1, 3, 33, 49))
    assert scores.shape == (1, 4, 5, 7)
    assert scores.isfinite().all()
    scores.square().mean().backward()
    for key, parameter in model.named_parameters():
        if ".bn." in key:
            assert parameter.grad is None
        else:
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.any(), key


def test_vgg_structure():
    model = on_meta("deeplab_vgg16_largefov")
    convs = {k: m for k, m in model.named_modules() if isinstance(m, (nn.Conv2d, AtrousConv2d))}
    counts = (2, 2, 3, 3, 3)
    trunk = [f"conv{b}_{i}" for b, n in enumerate(counts, 1) for i in range(1, n + 1)]
    assert list(convs) == [*trunk, "fc6", "fc7", "fc8"]
    assert all(m.kernel_size == (3, 3) and m.stride == (1, 1) for m in list(convs.values())[:-2])
    for key in trunk:
        rate = (2, 2) if key.startswith("conv5") else (1, 1)
        assert getattr(convs[key], "rate", (1, 1)) == rate
        assert convs[key].padding == rate
    assert convs["fc6"].rate == convs["fc6"].padding == (12, 12)
    assert tuple(convs["fc6"].weight.shape) == (1024, 512, 3, 3)
    assert tuple(convs["fc7"].weight.shape) == (1024, 1024, 1, 1)
    assert model.classifiers() == [convs["fc8"]]
    assert model.pool5a is not None


@pytest.mark.parametrize(
    ("name", "rates"),
    [("deeplab_vgg16_aspp_s", (2, 4, 8, 12)), ("deeplab_vgg16_aspp_l", (6, 12, 18, 24))],
)
def test_vgg_aspp_branches(name, rates):
    model = on_meta(name)
    assert tuple(getattr(model, f"fc6_{i}").rate[0] for i in (1, 2, 3, 4)) == rates
    assert [m.out_channels for m in model.classifiers()] == [21] * 4
    assert model.pool5a is None


@pytest.mark.parametrize(
    ("name", "taps", "rate", "padding"),
    [("7x7", 7, 4, 12), ("4x4", 4, 4, 6), ("4x4_r8", 4, 8, 12)],
)
def test_vgg_of_table_1(name, taps, rate, padding):
    model = on_meta(f"deeplab_vgg16_{name}")
    assert tuple(model.fc6.weight.shape) == (4096, 512, taps, taps)
    assert (model.fc6.rate, model.fc6.padding) == ((rate, rate), (padding, padding))
    assert tuple(model.fc7.weight.shape) == (4096, 4096, 1, 1)
    assert model.pool5a is None


def test_vgg_drops_out_half_in_training():
    model = create_model("deeplab_vgg16_largefov", 3, seed=0)
    assert model.dropout.p == 0.5
    x = 30 * torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("stride_in_1x1", [True, False])
def test_resnet_structure(stride_in_1x1):
    model = on_meta("deeplab_resnet101_aspp", stride_in_1x1=stride_in_1x1)
    stages = [model.res2, model.res3, model.res4, model.res5]
    assert [len(stage) for stage in stages] == [3, 4, 23, 3]
    assert model.conv1.conv.kernel_size == (7, 7)
    assert model.conv1.conv.stride == (2, 2)
    for stage, width, rate in zip(stages, (64, 128, 256, 512), (1, 1, 2, 4), strict=True):
        for i, block in enumerate(stage):
            stride = 2 if stage is model.res3 and i == 0 else 1
            a, b, c = block.branch2a.conv, block.branch2b.conv, block.branch2c.conv
            assert (a.out_channels, b.out_channels, c.out_channels) == (width, width, 4 * width)
            assert b.rate == b.padding == (rate, rate)
            assert a.stride[0] == (stride if stride_in_1x1 else 1)
            assert b.stride[0] == (1 if stride_in_1x1 else stride)
            if i == 0:
                assert block.branch1.conv.stride == (stride, stride)
            else:
                assert isinstance(block.branch1, nn.Identity)
    convs = [m for m in model.modules() if isinstance(m, AtrousConv2d)]
    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert (len(convs), len(norms)) == (104 + 4, 104)
    assert sum(m.bias is not None for m in convs) == 4
    assert {m.eps for m in norms} == {1e-5}


def test_resnet_heads():
    plain, largefov, aspp = (on_meta(n).fc1 for n in NAMES[6:9])
    assert (plain.kernel_size, plain.rate, plain.padding) == ((1, 1), (1, 1), (0, 0))
    assert (largefov.kernel_size, largefov.rate, largefov.padding) == ((3, 3), (12, 12), (12, 12))
    assert isinstance(aspp, ASPP)
    assert [branch.rate[0] for branch in aspp.branches()] == [6, 12, 18, 24]
    assert all(branch.bias is not None for branch in aspp.branches())


def test_resnet_training_mode_changes_nothing():
    model = create_model("deeplab_resnet101", 3, seed=0)
    x = 30 * torch.randn(2, 3, 33, 33)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(model.train()(x), model.eval()(x))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    trainable = {key for key, p in model.named_parameters() if p.requires_grad}
    assert not any(".bn." in key for key in trainable)
    assert len(trainable) == 104 + 2


def test_key_names():
    keys = on_meta("deeplab_resnet101_aspp").state_dict().keys()
    assert len(keys) == 104 * 5 + 8
    assert {
        "conv1.conv.weight",
        "conv1.bn.running_mean",
        "res3.block1.branch1.conv.weight",
        "res4.block23.branch2c.bn.running_var",
        "fc1.c3.bias",
    } <= keys
    assert "fc1.weight" in on_meta("deeplab_resnet101").state_dict()
    assert "fc8_4.bias" in on_meta("deeplab_vgg16_aspp_s").state_dict()


def test_initialisation():
    model = create_model("deeplab_vgg16_largefov", seed=0)
    assert model.fc8.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.conv5_3.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.05)
    assert not any(p.any() for key, p in model.named_parameters() if key.endswith("bias"))


def test_seed_decides_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second, other = (create_model("deeplab_resnet101", 2, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.conv1.conv.weight, second.conv1.conv.weight)
    assert not torch.equal(first.conv1.conv.weight, other.conv1.conv.weight)


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, "21", True])
def test_number_of_classes_must_be_positive(num_classes):
    error = ValueError if type(num_classes) is int else TypeError
    with pytest.raises(error, match=r"num_classes: expected (at least 1|an integer)"):
        on_meta("deeplab_resnet101", num_classes)


@pytest.mark.parametrize("name", ["deeplab_vgg16_aspp_s", "deeplab_resnet101"])
def test_number_of_classes_may_be_an_integer_of_numpy(name):
    model = on_meta(name, np.int64(7))
    assert type(model.num_classes) is int
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name][CLASSES.index(7)]


def test_the_name_is_a_string():
    with pytest.raises(TypeError, match=r"name: expected a string, got ModelInfo; pass its \.name"):
        create_model(list_models()[0])
    with pytest.raises(TypeError, match="name: expected a string, got list"):
        create_model([])


def test_weights_that_are_not_there_are_named_before_the_net_is_built(monkeypatch, tmp_path):
    monkeypatch.setattr(nn.Module, "to_empty", lambda *args, **kw: pytest.fail("the net was built"))
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        create_model("deeplab_resnet101", weights=tmp_path / "none.pth")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        create_model("deeplab_resnet101", weights=tmp_path)


def test_unknown_name_lists_the_names_close_ones_first():
    with pytest.raises(ValueError, match="did you mean deeplab_resnet101_aspp") as error:
        create_model("deeplab_resnet101_asp")
    assert all(name in str(error.value) for name in NAMES)
    with pytest.raises(ValueError, match="expected one of deeplab_vgg16_7x7") as error:
        create_model("unet")
    assert all(name in str(error.value) for name in NAMES)


def test_unknown_option():
    with pytest.raises(TypeError, match="stride_in_1x1"):
        on_meta("deeplab_vgg16_largefov", stride_in_1x1=True)
    with pytest.raises(TypeError, match="stride_in_1x1: expected True or False, got 'no'"):
        on_meta("deeplab_resnet101", stride_in_1x1="no")
