"""Nets made ready for inference: they compute the same, follow their net, and cost no walk."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_native.crf import CRFParams
from deeplab_native.layers.folded import FoldedConv
from deeplab_native.models import (
    create_model,
    list_models,
    predict,
    refresh,
    set_output_stride,
)
from deeplab_native.models._inference import Ready, ready
from python_tests.models.small_net import SmallNet

CRF = CRFParams(w1=4, sigma_alpha=30, sigma_beta=10, w2=3, sigma_gamma=2)
FAMILIES = (
    "deeplab_resnet101",
    "deeplab_resnet101_aspp",
    "deeplab_vgg16_largefov",
    "deeplab_mobilenetv2_aspp_s",
    "deeplab_mobilenetv2_aspp",
)


def random_image(height=17, width=25, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def net_with_statistics(name):
    """Batch normalisation that does something."""
    net = create_model(name, 4, seed=0)
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.running_mean.normal_(std=0.2, generator=generator)
            module.bias.data.normal_(std=0.2, generator=generator)
    return net


@pytest.fixture(scope="module")
def small():
    return create_model("deeplab_mobilenetv2_aspp", 3, seed=0)


@pytest.fixture
def resnet():
    """One bottleneck of each stage: quick."""
    net = net_with_statistics("deeplab_resnet101")
    for stage in (net.res2, net.res3, net.res4, net.res5):
        del stage[1:]
    return net


def plain(net, x):
    training = net.training
    with torch.no_grad():
        scores = net.eval()(x)
    net.train(training)
    return scores


def from_ready(net, x, precision="model"):
    with torch.inference_mode():
        return ready(net, precision)(net, x)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_the_same(name):
    net, x = net_with_statistics(name), torch.randn(1, 3, 33, 41) * 50
    expected, scores = plain(net, x), from_ready(net, x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(scores, expected, rtol=0, atol=2e-6 * scale)
    assert not scores.requires_grad and net.training
    assert all(p.grad is None for p in net.parameters())


def test_every_net_is_a_net_of_ours():
    for info in list_models():
        if info.build.keywords.get("filters") == 4096:
            continue  # half a gigabyte
        net = create_model(info.name, 2, seed=0)
        made = Ready(net, "model")
        assert made._copy is not None
        folded = sum(isinstance(m, FoldedConv) for m in made._copy.modules())
        assert folded == ("resnet101" in info.name) * 104
        if not folded:  # not a byte more
            assert {id(p) for p in made._copy.parameters()} == {id(p) for p in net.parameters()}


CHANGES = {
    "in place": lambda net: net.conv1.conv.weight.mul_(2),
    "batch normalisation": lambda net: net.conv1.bn.running_mean.add_(3),
    "load_state_dict": lambda net: net.load_state_dict(
        {k: v * 0.5 for k, v in net.state_dict().items()}
    ),
    "assign": lambda net: net.load_state_dict(
        {k: v * 0.5 for k, v in net.state_dict().items()}, assign=True
    ),
    "data": lambda net: setattr(net.fc1.weight, "data", net.fc1.weight.data * 2),
    "a parameter": lambda net: setattr(net.fc1, "weight", nn.Parameter(net.fc1.weight * 2)),
    "a module": lambda net: setattr(net.res5[0].branch2b, "bn", nn.Identity()),
    "rate": lambda net: setattr(net.res5[0].branch2b.conv, "rate", 1),
    "scales": lambda net: setattr(net, "scales", (1.0, 0.5)),
    "output stride": lambda net: set_output_stride(net, 4),
    "forward": lambda net: setattr(net.fc1, "forward", lambda x: x[:, :4]),
    "hook": lambda net: net.fc1.register_forward_hook(lambda m, i, out: out + 1),
    "dtype": lambda net: net.double(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_net_is_seen(resnet, change):
    x = torch.randn(1, 3, 33, 33)
    before = from_ready(resnet, x)
    assert ready(resnet, "model") is ready(resnet, "model")
    with torch.no_grad():
        CHANGES[change](resnet)
    x = x.to(resnet.fc1.weight.dtype)
    expected, scores = plain(resnet, x), from_ready(resnet, x)
    scale = float(expected.abs().max()) or 1.0
    torch.testing.assert_close(scores, expected, rtol=0, atol=2e-6 * scale)
    assert scores.dtype != before.dtype or not torch.equal(scores, before)


def test_modes_are_no_change(resnet):
    made = ready(resnet, "model")
    resnet.eval()
    assert ready(resnet, "model") is made
    resnet.train()
    assert ready(resnet, "model") is made


def test_an_optimizer_is_seen(resnet):
    x = torch.randn(1, 3, 33, 33)
    optimizer = torch.optim.SGD((p for p in resnet.parameters() if p.requires_grad), 1e-4)
    for _ in range(2):
        from_ready(resnet, x)
        optimizer.zero_grad()
        resnet(x).square().mean().backward()
        optimizer.step()
        expected = plain(resnet, x)
        tolerance = 2e-6 * float(expected.abs().max())
        torch.testing.assert_close(from_ready(resnet, x), expected, rtol=0, atol=tolerance)


def test_what_cannot_be_seen_needs_refresh(resnet):
    x = torch.randn(1, 3, 33, 33)
    before = from_ready(resnet, x)
    resnet.conv1.conv.weight.data.mul_(2)
    assert torch.equal(from_ready(resnet, x), before)
    refresh(resnet)
    expected = plain(resnet, x)
    torch.testing.assert_close(from_ready(resnet, x), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got str"):
        refresh("resnet")


def test_nothing_is_kept_of_a_net_that_is_gone():
    net = create_model("deeplab_mobilenetv2_aspp", 3, seed=0)
    set_output_stride(net, 4)  # whose record has the net in it
    predict(net, random_image(9, 9), graph=True)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_copies_and_files_of_a_net_are_as_before(small):
    keys = set(small.__dict__)
    predict(small, random_image())
    assert set(small.__dict__) == keys
    other = pickle.loads(pickle.dumps(copy.deepcopy(small)))
    assert torch.equal(predict(other, random_image()).scores, predict(small, random_image()).scores)


def test_precisions(small):
    image = random_image()
    exact = predict(small, image)
    assert torch.equal(predict(small, image, precision="model").scores, exact.scores)
    rough = predict(small, image, precision="bfloat16")
    assert rough.scores.dtype == torch.float32
    assert not torch.equal(rough.scores, exact.scores)
    scale = float(exact.scores.abs().max())
    torch.testing.assert_close(rough.scores, exact.scores, rtol=0, atol=0.05 * scale)
    wide = copy.deepcopy(small).double()
    assert ready(wide, "auto").dtype == torch.float64  # the user's own choice
    narrowed = predict(wide, image, precision="float32")
    torch.testing.assert_close(narrowed.scores, exact.scores, rtol=0, atol=1e-5 * scale)
    with pytest.raises(ValueError, match=r"precision: expected one of auto, .*; got 'tf32'"):
        predict(small, image, precision="tf32")


def test_the_precision_of_other_modules_is_autocast():
    net, seen = SmallNet(), []
    net.fc.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    predict(net, random_image(), precision="bfloat16")
    predict(net, random_image())
    assert seen == [torch.bfloat16, torch.float32]


def test_an_eval_of_ones_own_is_called():
    class Own(SmallNet):
        def train(self, mode=True):
            calls.append(mode)
            return super().train(mode)

    calls = []
    net = Own()
    calls.clear()
    predict(net, random_image())
    assert calls[0] is False


class Waits(TorchDispatchMode):
    """What would wait for a GPU: values taken from it, and sent to it from pageable memory."""

    names = ("_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in func.name() for name in self.names), func.name()
        return func(*args, **(kwargs or {}))


def check_a_second_call(monkeypatch, crf):
    net, image = create_model("deeplab_mobilenetv2_aspp", 3, seed=0), random_image(9, 17)
    how = {"crf": crf, "iterations": 1}
    expected = predict(net, image, **how)

    def forbidden(name):
        return lambda *args, **kwargs: pytest.fail(f"{name} was called")

    for name in ("modules", "named_modules", "parameters", "named_parameters", "train", "eval"):
        monkeypatch.setattr(nn.Module, name, forbidden(name))
    for name in ("item", "tolist", "cpu", "numpy", "new_tensor", "__bool__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, forbidden(name))
    monkeypatch.setattr(torch, "tensor", forbidden("tensor"))
    with Waits():
        found = predict(net, image, **how)
    monkeypatch.undo()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_nothing_waits_and_nothing_walks(monkeypatch):
    """The CRF's checks of values on the CPU may take them."""
    check_a_second_call(monkeypatch, None)


def test_nothing_waits_in_the_crf_of_a_gpu(emulated, monkeypatch):
    check_a_second_call(monkeypatch, CRF)


@pytest.mark.parametrize("kind", [SmallNet, lambda: create_model("deeplab_mobilenetv2_aspp", 3)])
def test_nothing_waits_on_cuda(cuda, kind):
    net, image = kind().to(cuda), random_image(33, 41)
    batch = torch.from_numpy(np.stack([image] * 2)).permute(0, 3, 1, 2)
    expected = [predict(net, i, crf=CRF) for i in (image, batch)]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [predict(net, i, crf=CRF) for i in (image, batch)]
        predict(net, image, tile=17, crf=CRF)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.labels, other.labels)


def test_auto_is_bfloat16_on_cuda(cuda):
    net = create_model("deeplab_mobilenetv2_aspp", 3, seed=0).to(cuda)
    narrow = torch.cuda.get_device_capability() >= (8, 0)
    assert ready(net, "auto").dtype == (torch.bfloat16 if narrow else torch.float32)
    assert ready(SmallNet().to(cuda), "auto").dtype == torch.float32
    exact = predict(net, random_image(), precision="model")
    rough = predict(net, random_image())
    assert (rough.scores - exact.scores).abs().max() < 0.05 * exact.scores.abs().max()


def test_a_copy_made_on_another_stream(cuda):
    net, image = create_model("deeplab_mobilenetv2_aspp", 3, seed=0).to(cuda), random_image()
    expected = predict(net, image).scores
    refresh(net)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        predict(net, image)
    assert torch.equal(predict(net, image).scores, expected)
