"""`deeplab-native convert-weights`."""

import pytest
import torch
from PIL import Image

from deeplab_native import CRFParams, viz, weights
from deeplab_native.models import CAFFE, create_model
from python_tests.cli.cli_cases import fails
from python_tests.weights.test_vgg import FEATURES, TRUNK, head_values

ASPP = "deeplab_resnet101_aspp"


def on_meta(name, classes, **options):
    with torch.device("meta"):
        return create_model(name, classes, **options)


def constants(shapes):
    """Values that take no room in a file."""
    return {key: torch.tensor([0.5]).expand(t.shape) for key, t in shapes.items()}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def public(here):
    """deeplab-pytorch's keys, from the export that test_weights_resnet checks."""
    net = on_meta(ASPP, 21).to_empty(device="cpu")
    for tensor in net.state_dict().values():
        tensor.fill_(0.5)
    weights.export_deeplab_pytorch(net, here / "public.pth")
    return here / "public.pth"


def test_public_checkpoint_there_and_back(public, here, run):
    (here / "names.txt").write_text("\n".join(viz.VOC_CLASSES) + "\n", encoding="utf-8")
    result = run(
        "convert-weights", public, "voc.safetensors", "--palette", "voc", "--crf", "voc-resnet101",
        "--class-names", "names.txt",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    for words in ("kazuto1011's deeplab-pytorch", ASPP, "21, with names and colours and CRF"):
        assert words in result.out
    assert weights.read_metadata("voc.safetensors") == weights.Metadata(
        model=ASPP,
        num_classes=21,
        options={"stride_in_1x1": True},
        preprocessing=CAFFE,
        class_names=viz.VOC_CLASSES,
        palette=tuple(map(tuple, viz.voc_palette(21).tolist())),
        crf=CRFParams.preset("voc-resnet101"),
    )
    assert run("convert-weights", "voc.safetensors", "back.pth").code == 0
    back, first = (torch.load(p, weights_only=True) for p in ("back.pth", public))
    assert back.keys() == first.keys()
    assert all(torch.equal(back[key], first[key]) for key in first)


def test_weights_of_imagenet(here, run):
    state = head_values()
    for i, (_, a, b) in zip(FEATURES, TRUNK, strict=True):
        state |= {f"features.{i}.weight": torch.tensor([0.5]).expand(b, a, 3, 3)}
        state |= {f"features.{i}.bias": torch.zeros(b)}
    torch.save(state, "vgg16.pth")
    command = ("convert-weights", "vgg16.pth", "start.safetensors")
    fails(run(*command), "fits no net as it is", "--new-layers classifier")
    new = ("--new-layers", "classifier")
    fails(run(*command, *new), "--model: ", "fits several nets", "deeplab_vgg16_aspp_s")
    model = ("--model", "deeplab_vgg16_largefov")
    fails(run(*command, *new, *model), "--num-classes: expected a number")
    assert [p.name for p in here.iterdir()] == ["vgg16.pth"]
    result = run(*command, *new, *model, "--classes", 5)
    assert result.code == 0
    assert "torchvision's resnet101 or vgg16" in result.out
    assert "the classifier" in result.out
    metadata = weights.read_metadata("start.safetensors")
    assert (metadata.num_classes, metadata.preprocessing) == (5, weights.TORCHVISION)


def test_our_names_without_an_input_format(here, run):
    torch.save(constants(on_meta(ASPP, 3).state_dict()), "ours.pth")
    command = ("convert-weights", "ours.pth", "ours.safetensors")
    fails(run(*command), "ours.pth does not say its input format; expected --input-format caffe")
    Image.new("RGB", (20, 30)).save("photo.png")
    for other in (
        ("segment", "photo.png", "--weights", "ours.pth"),
        ("export-onnx", "--weights", "ours.pth", "-o", "net.onnx"),
    ):
        result = run(*other)
        fails(result, "expected --input-format caffe", "deeplab-native convert-weights IN -o")
        assert "models." not in result.err
    assert {p.name for p in here.iterdir()} == {"ours.pth", "photo.png"}
    command += ("--input-format", "torchvision")
    fails(run(*command), "expected --stride-in-1x1 (Caffe's weights and their ports) or --str")
    assert not (here / "ours.safetensors").exists()
    assert run(*command, "--stride-in-3x3").code == 0
    metadata = weights.read_metadata("ours.safetensors")
    assert metadata.options == {"stride_in_1x1": False}
    assert metadata.preprocessing == weights.TORCHVISION


def test_wrong_arguments_before_anything_is_read(public, here, run):
    before = public.read_bytes()
    fails(run("convert-weights", public, "out.onnx"), "that ends in .safetensors or .pth")
    fails(run("convert-weights", public, public), "is already an input")
    fails(run("convert-weights", public, "none/out.safetensors"), "does not exist")
    fails(run("convert-weights", "none.pth", "out.safetensors"), "no such weights file")
    command = ("convert-weights", public, "out.safetensors")
    fails(run(*command, "--input-format", "bgr"), "--input-format: expected one of caffe")
    fails(run(*command, "--crf", "voc"), "preset: expected one of")
    fails(run(*command, "--palette", "grey"), "unknown palette 'grey'")
    fails(run(*command, "--source", "kazuto"), "--source: expected one of deeplab_native")
    fails(run(*command, "--new-layers", "fc8"), "--new-layers: expected None or one of classifier")
    fails(run(*command, "--model", "unet"), "unknown net 'unet'")
    (here / "names.txt").write_text("cat\ndog\n")
    fails(run(*command, "--class-names", "names.txt"), "--class-names: expected one for each of 21")
    (here / "names.txt").write_bytes(b"\xff\xfe")
    fails(run(*command, "--class-names", "names.txt"), "expected a text file in UTF-8")
    assert not (here / "out.safetensors").exists()
    assert public.read_bytes() == before
