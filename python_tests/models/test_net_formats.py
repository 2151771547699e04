"""Whole nets in other forms: channels_last, bf16, torch.compile, torch.export, ONNX."""

from __future__ import annotations

import copy
import importlib.util
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import layers, set_algorithm, set_output_stride, weights
from deeplab_native.layers import AtrousConv2d, using_algorithm
from deeplab_native.models import create_model, export_onnx, predict
from deeplab_native.models.resnet import Bottleneck
from python_tests.cli.cli_cases import fails

VGG, RESNET = "deeplab_vgg16_largefov", "deeplab_resnet101_aspp"

onnx_only = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed",
)


def make(name, classes=3, **options):
    return create_model(name, classes, seed=0, **options).eval()


def noise(*shape):
    return 30 * torch.randn(*shape)


@pytest.fixture(scope="module")
def vgg():
    return make(VGG)


class Head(torch.nn.Module):
    """The end of the ResNet: a stage's first block, with projection and rate 4, and ASPP."""

    def __init__(self):
        super().__init__()
        how = {"stride": 1, "rate": 4, "project": True, "stride_in_1x1": True}
        self.block = Bottleneck(64, 32, **how)
        self.fc1 = layers.ASPP(128, 5)

    def forward(self, x):
        return self.fc1(self.block(x))


def close(actual, expected, tolerance):
    limit = tolerance * expected.abs().max().item()
    torch.testing.assert_close(actual.float(), expected, rtol=0, atol=limit)


@pytest.mark.parametrize("name", [VGG, RESNET])
def test_channels_last_and_bf16_autocast(name):
    model, x = make(name), noise(1, 3, 33, 41)
    with torch.no_grad():
        expected = model(x)
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        close(last(x.contiguous(memory_format=torch.channels_last)), expected, 1e-5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = model(x)
    assert scores.dtype == torch.bfloat16
    close(scores, expected, 0.05)


def test_compiled_vgg(vgg):
    x = noise(1, 3, 65, 65)
    compiled = torch.compile(vgg, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        close(compiled(x), vgg(x), 1e-5)


@pytest.mark.parametrize("how", ["float32", "channels_last", "bf16", "dense"])
def test_compiled_head_with_its_gradients(how):
    torch.manual_seed(0)
    model = Head()
    x = torch.randn(2, 64, 17, 19, requires_grad=True)
    given = x
    if how == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        given = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    if how == "dense":
        net = torch.nn.Sequential(torch.nn.MaxPool2d(3, 2, padding=1), model)
        model = set_output_stride(net, 1, inputs=(x.detach(),))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    gradients = []
    for net in (model, compiled):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "bf16"):
            scores = net(given)
        scores.float().square().sum().backward()
        head = model[1] if how == "dense" else model
        gradients.append((scores.detach().float(), head.fc1.c3.weight.grad.clone()))
    tolerance = 0.02 if how == "bf16" else 1e-4
    for eager, actual in zip(*gradients, strict=True):
        close(actual, eager, tolerance)


def operators(program):
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


def test_export_has_only_operators_of_torch_with_aten():
    torch.manual_seed(0)
    model, x = Head(), torch.randn(1, 64, 9, 11)
    own = torch.export.export(model, (x,))  # with gradients the fused head is faster
    assert "deeplab_native.aspp_branches.default" in operators(own)
    with using_algorithm(model, "aten"):
        plain = torch.export.export(model, (x,))
    assert all(name.startswith("aten.") for name in operators(plain))
    expected = model(x)
    # our own operators have what an export needs, too
    for program in (own, plain):
        close(program.module()(x), expected, 1e-5)
    assert {m.algorithm for m in model.modules() if isinstance(m, AtrousConv2d)} == {"auto"}


@pytest.mark.parametrize("algorithm", ["im2col", "space_to_batch"])
def test_export_of_our_own_convolutions(algorithm):
    model = AtrousConv2d(3, 4, 3, padding="same", rate=2, algorithm=algorithm)
    x = torch.randn(2, 3, 9, 11)
    sizes = {i: torch.export.Dim.DYNAMIC for i in (0, 2, 3)}
    program = torch.export.export(model, (x,), dynamic_shapes=(sizes,))
    assert "deeplab_native.atrous_conv2d.default" in operators(program)
    for shape in ((2, 3, 9, 11), (1, 3, 20, 7)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), model(x))


def test_export_of_the_embedded_net_for_any_size():
    model = weights.load_model(weights.EMBEDDED).eval()
    sizes = {i: torch.export.Dim.DYNAMIC for i in (0, 2, 3)}
    program = torch.export.export(model, (noise(2, 3, 65, 73),), dynamic_shapes=(sizes,))
    x = noise(3, 3, 47, 90)
    close(program.module()(x), model(x), 1e-5)


def test_set_algorithm():
    model = Head()
    set_algorithm(model, "im2col")
    assert {m.algorithm for m in model.modules() if isinstance(m, AtrousConv2d)} == {"im2col"}
    with using_algorithm(model, "aten"):
        assert model.fc1.c0.algorithm == "aten"
    assert model.fc1.c0.algorithm == "im2col"
    with pytest.raises(ValueError, match="algorithm: expected one of"):
        set_algorithm(model, "fft")
    strided = torch.nn.Sequential(model, AtrousConv2d(5, 5, 3, stride=2))
    with pytest.raises(ValueError, match="1: stride: algorithm 'space_to_batch' needs 1"):
        set_algorithm(strided, "space_to_batch")
    assert model.fc1.c0.algorithm == "im2col"
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got str"):
        set_algorithm("vgg", "aten")


def run_onnx(path, image):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, {"image": image.numpy()})[0], session


@onnx_only
def test_onnx_of_any_size(vgg, tmp_path):
    vgg.train()
    export_onnx(vgg, tmp_path / "net.onnx")
    assert vgg.training
    assert os.listdir(tmp_path) == ["net.onnx"]
    vgg.eval()
    for shape in ((1, 3, 65, 65), (2, 3, 46, 70)):
        x = noise(*shape)
        scores, session = run_onnx(tmp_path / "net.onnx", x)
        with torch.no_grad():
            expected = vgg(x).numpy()
        assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["model"], facts["num_classes"], facts["output_stride"]) == (VGG, "3", "8")
    assert json.loads(facts["preprocessing"])["channel_order"] == "BGR"


@onnx_only
def test_onnx_of_a_head_on_a_denser_grid(tmp_path):
    """ASPP, pools with rates, and a fixed size."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3, 2, padding=1),
        torch.nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        torch.nn.AvgPool2d(3, 1, padding=1),
        Head(),
    )
    net.preprocessing = make_preprocessing()
    set_output_stride(net, 2)
    export_onnx(net, tmp_path / "net.onnx", size=(42, 65))
    x = torch.randn(1, 3, 42, 65)
    scores, session = run_onnx(tmp_path / "net.onnx", x)
    expected = net.eval()(x).detach().numpy()
    assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()
    assert session.get_inputs()[0].shape == [1, 3, 42, 65]


def make_preprocessing():
    from deeplab_native.models import Preprocessing

    return Preprocessing("RGB", (0.5, 0.5, 0.5), scale=1.0)


def test_onnx_of_unusable_arguments(vgg, tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=r"model: .*\.preprocessing, got Head"):
        export_onnx(Head(), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"path: expected a name ending in \.onnx"):
        export_onnx(vgg, tmp_path / "net.pth")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        export_onnx(vgg, tmp_path / "no" / "net.onnx")
    with pytest.raises(ValueError, match="size: expected at least 1"):
        export_onnx(vgg, tmp_path / "net.onnx", size=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"onnx and onnxscript \(pip install onnx onnxscript\)"):
        export_onnx(vgg, tmp_path / "net.onnx")
    assert os.listdir(tmp_path) == []


@onnx_only
def test_command(given, run):
    net = make(VGG, 4)
    weights.save(net, "net.safetensors")
    how = ("--weights", "net.safetensors", "--num-classes", 4, "--size", 33)
    result = run("export-onnx", VGG, "net.onnx", *how)
    assert result.code == 0, result.err
    assert "image (1, 3, 33, 33)" in result.out
    x = noise(1, 3, 33, 33)
    scores, _ = run_onnx("net.onnx", x)
    with torch.no_grad():
        expected = net(x).numpy()
    assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()
    fails(run("export-onnx", VGG, "net.pth", *how), "net.pth", ".onnx")
    fails(run("export-onnx", VGG, "b.onnx", "--weights", "no.safetensors"), "no.safetensors")
    wrong = run("export-onnx", VGG, "b.onnx", *how[:2], "--num-classes", 5)
    fails(wrong, "num_classes: 4 in", advice=False)
    assert not os.path.exists("b.onnx")


@onnx_only
def test_command_takes_from_the_file_what_is_not_said(given, run):
    """Classes and options, also where the net is named; segment does the same."""
    net = make("deeplab_mobilenetv2_aspp", 3, output_stride=16)
    weights.save(net, "net.safetensors")
    how = ("--weights", "net.safetensors", "--model", net.name)
    result = run("export-onnx", *how, "-o", "net.onnx", "--size", 33)
    assert result.code == 0, result.err
    assert "16 x 16" in result.out
    result = run("segment", "photo.png", *how, "--no-crf")
    assert result.code == 0, result.err
    with Image.open("deeplab-native-segment/photo.png") as image:
        assert np.array_equal(np.array(image), predict(net, "photo.png").labels.numpy())
