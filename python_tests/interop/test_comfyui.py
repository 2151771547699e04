"""The ComfyUI node, called as ComfyUI calls one: by its tables and its declared inputs."""

import importlib.util
import inspect
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from deeplab_native import CRFParams
from deeplab_native.interop import comfyui, refine_masks
from python_tests.interop.scene import coarse, iou, photo, truth

NODE = comfyui.NODE_CLASS_MAPPINGS["DeeplabNativeRefineMask"]
IMAGE = torch.from_numpy(photo())[None].float() / 255
MASKS = torch.from_numpy(coarse()).float()


def run(image, mask, **changed):
    """Every input by its name, widgets at their defaults."""
    widgets = {
        name: about[1]["default"]
        for name, about in NODE.INPUT_TYPES()["required"].items()
        if "default" in about[1]
    }
    result = getattr(NODE(), NODE.FUNCTION)(image=image, mask=mask, **widgets | changed)
    assert isinstance(result, tuple) and len(result) == len(NODE.RETURN_TYPES) == 1
    return result[0]


def test_what_the_protocol_asks_for():
    inputs = NODE.INPUT_TYPES()["required"]
    assert inputs["image"][0] == "IMAGE" and inputs["mask"][0] == "MASK"
    assert NODE.RETURN_TYPES == ("MASK",) and len(NODE.OUTPUT_TOOLTIPS) == 1
    assert comfyui.NODE_DISPLAY_NAME_MAPPINGS.keys() == comfyui.NODE_CLASS_MAPPINGS.keys()
    defaults = {}
    for name, (kind, about) in inputs.items():
        assert about["tooltip"].endswith(".")
        if kind in ("INT", "FLOAT"):
            assert about["min"] <= about["default"] <= about["max"] and about["step"] > 0
            assert type(about["default"]) is {"INT": int, "FLOAT": float}[kind], name
        if isinstance(kind, list):
            assert about["default"] in kind
        defaults[name] = about.get("default")
    preset = CRFParams.preset("voc-resnet101")
    for name in ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma"):
        assert defaults[name] == getattr(preset, name)
    taken = inspect.signature(getattr(NODE, NODE.FUNCTION)).parameters
    assert {"image", "mask", "output", "device"} < taken.keys() and "params" in taken


def test_masks_of_a_batch():
    found = run(IMAGE, MASKS)  # one photograph, two masks
    assert found.shape == (2, 60, 80) and found.dtype == torch.float32
    assert set(found.unique().tolist()) == {0, 1}
    np.testing.assert_array_equal(found.numpy() != 0, refine_masks(photo(), coarse()))
    both = run(torch.cat([IMAGE, IMAGE.flip(2)]), torch.stack([MASKS[0], MASKS[1].flip(1)]))
    assert iou(both[1].flip(1), truth()[1]) > 0.99
    one = run(torch.cat([IMAGE, IMAGE]), MASKS[0])  # (H, W), for all
    assert torch.equal(one[0], found[0]) and torch.equal(one[1], found[0])


def test_beliefs_soft_masks_and_other_sizes():
    belief = run(IMAGE, MASKS[:1], output="belief")
    assert 0 <= belief.min() < 0.5 < belief.max() <= 1 and len(belief.unique()) > 100
    assert iou(belief[0] > 0.5, truth()[0]) > 0.99
    soft = run(IMAGE, MASKS[:1] * 0.6 + 0.2)
    assert iou(soft[0], truth()[0]) > 0.99
    small = torch.nn.functional.interpolate(MASKS[None], size=(30, 40), mode="area")[0]
    assert iou(run(IMAGE, small)[0], truth()[0]) > iou(MASKS[0], truth()[0]) + 0.1
    # as ComfyUI's loader gives it where a picture has no alpha
    assert not run(IMAGE, torch.zeros(1, 64, 64)).any()
    transparent = torch.cat([IMAGE, torch.ones(1, 60, 80, 1)], -1)
    assert torch.equal(run(transparent, MASKS[:1]), run(IMAGE, MASKS[:1]))


def test_parameters_count():
    assert not torch.equal(run(IMAGE, MASKS[:1], w1=0.0), run(IMAGE, MASKS[:1]))


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (IMAGE[0], MASKS, "`image`: expected (B, H, W, 3), got (60, 80, 3)"),
        (IMAGE, MASKS[None], "`mask`: expected (B, H, W), one for all or for each of 1 images"),
        (torch.cat([IMAGE] * 3), MASKS, "for each of 3 images, got (2, 60, 80)"),
    ],
)
def test_errors(image, mask, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(image, mask)


def test_the_one_file_of_custom_nodes(tmp_path):
    """ComfyUI runs each file there by its path, and looks at its tables."""
    line = comfyui.__doc__.split("known:")[1].split("The protocol")[0].strip()
    path = tmp_path / "deeplab_native_nodes.py"
    path.write_text(line)
    spec = importlib.util.spec_from_file_location("custom_nodes.deeplab_native_nodes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS is comfyui.NODE_CLASS_MAPPINGS
    assert module.NODE_DISPLAY_NAME_MAPPINGS is comfyui.NODE_DISPLAY_NAME_MAPPINGS


def test_nothing_of_others_is_imported():
    code = "import sys, deeplab_native.interop.comfyui; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {"comfy", "nodes", "supervision", "transformers", "torchvision", "pycocotools"}
    assert not (others | {"contourpy", "matplotlib"}) & set(run.stdout.split())
