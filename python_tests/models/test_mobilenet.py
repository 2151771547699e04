"""MobileNetV2 under DeepLab's heads: its structure, and its options."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_native import weights
from deeplab_native.models import TENSORFLOW, create_model, set_output_stride


def on_meta(name, num_classes=21, **options):
    with torch.device("meta"):
        return create_model(name, num_classes, **options)


def test_mobilenet_structure():
    model = on_meta("deeplab_mobilenetv2_largefov")
    trunk = model.trunk()
    assert len(trunk) == 51
    filters = [m for m in trunk if m.groups > 1]
    assert [m.stride[0] for m in filters] == [1, 2, 1, 2] + 13 * [1]
    assert [m.dilation[0] for m in filters] == 7 * [1] + 7 * [2] + 3 * [4]
    assert all(m.padding == m.dilation and m.groups == m.in_channels for m in filters)
    assert all(m.bias is not None for m in trunk)
    assert model.fc6.in_channels == 320
    assert model.pool5a is not None
    assert model.preprocessing == TENSORFLOW
    keys = list(model.state_dict())
    assert keys[:4] == [
        f"{m}.{p}" for m in ("conv1", "block1.depthwise") for p in ("weight", "bias")
    ]
    assert keys[-1] == "fc8.bias"


@pytest.mark.parametrize(
    ("kind", "options"), [("aspp_s", {"filters": 16}), ("aspp_l", {"filters": 16}), ("aspp", {})]
)
def test_mobilenet_of_stride_16_is_the_net_of_stride_8_at_every_other_pixel(
    kind, options, tmp_path
):
    name = f"deeplab_mobilenetv2_{kind}"
    coarse = create_model(name, 3, seed=0, output_stride=16, **options).eval()
    assert coarse.output_stride == 16
    fine = create_model(name, 3, **options).eval()
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 3, 97, 129, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = fine(x)
        torch.testing.assert_close(coarse(x), expected[:, :, ::2, ::2], rtol=1e-4, atol=1e-6)
        weights.save(coarse, tmp_path / "net.safetensors")
        again = weights.load_model(tmp_path / "net.safetensors").eval()
        torch.testing.assert_close(again(x), coarse(x), rtol=0, atol=0)
        set_output_stride(again, 8)
        torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-6)


class Calls(TorchDispatchMode):
    """The operators that were called within."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("trains", [True, False])
def test_relu_copies_nothing(trains):
    """Autograd would copy the input of one in place; without it, in place is one map less."""
    model = create_model("deeplab_mobilenetv2_aspp", 3)
    with torch.set_grad_enabled(trains), Calls() as calls:
        model.features(torch.zeros(1, 3, 33, 33))
    assert "aten::clone" not in calls.names
    assert calls.names.count("aten::hardtanh" if trains else "aten::hardtanh_") == 34


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"output_stride": 32}, ValueError, "output_stride: expected 8 or 16, got 32"),
        ({"output_stride": 16.0}, TypeError, "output_stride: expected an integer"),
        ({"filters": 0}, ValueError, "filters: expected at least 1"),
        ({"stride_in_1x1": True}, TypeError, "stride_in_1x1"),
        ({"rates": (1, 2)}, TypeError, "rates: no option of deeplab_mobilenetv2_aspp_l"),
    ],
)
def test_options_of_mobilenet(options, error, words):
    with pytest.raises(error, match=words):
        on_meta("deeplab_mobilenetv2_aspp_l", **options)
