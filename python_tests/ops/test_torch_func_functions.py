"""The public functions under `torch.func`: what they check, how often they call, compiled."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.func import grad, jvp, vjp
from torch.utils._python_dispatch import TorchDispatchMode

import deeplab_native as dn
from deeplab_native import CRFParams, MeanField, _native, dense_crf, mean_field
from deeplab_native.ops import _conv_choice
from python_tests.ops.func_cases import SAMPLES

pytestmark = pytest.mark.unsanitized  # kernels that other tests run, too


close = torch.testing.assert_close
without_warnings_of_torch = pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # its jvp's
PARAMS = CRFParams(4, 30, 10, 3, 3)


class Counting(TorchDispatchMode):
    """Keeps the calls of this package's ops below all transforms."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        namespace, _, name = func.name().partition("::")
        if namespace == _native.NAMESPACE:
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


def each(fn, *batches):
    return torch.stack([fn(*one) for one in zip(*batches, strict=True)])


def counted(fn, *args):
    with Counting() as counting:
        result = fn(*args)
    return result, counting.calls


def crf_batch(device):
    unary = torch.randn(SAMPLES, 2, 3, 6, 5, dtype=torch.float64, device=device)
    image = torch.randint(0, 255, (SAMPLES, 2, 3, 6, 5), device=device).to(torch.uint8)
    return unary, image


def test_the_batch_is_one_call(device):
    """Of images, and of filters of one image; forward, and backward by the images."""
    x = torch.randn(SAMPLES, 2, 3, 6, 5, dtype=torch.float64, device=device)
    weight = torch.randn(SAMPLES, 4, 3, 3, 3, dtype=torch.float64, device=device)

    def conv(x, weight):
        return dn.atrous_conv2d(x, weight, padding=2, rate=2, algorithm="im2col")

    def head(x, weight):
        return dn.aspp(x, [weight, weight], None, [1, 2])

    for fn, name in ((conv, "atrous_conv2d"), (head, "aspp_branches")):
        found, calls = counted(torch.vmap(fn, (0, None)), x, weight[0])
        assert calls == [name]
        close(found, each(lambda x: fn(x, weight[0]), x))  # noqa: B023
        found, calls = counted(torch.vmap(fn, (None, 0)), x[0], weight)
        assert calls == [name]
        close(found, each(lambda w: fn(x[0], w), weight))  # noqa: B023
    by_input = torch.vmap(grad(lambda x: conv(x, weight[0]).sin().sum()))
    _, calls = counted(by_input, x)
    assert calls == ["atrous_conv2d", "atrous_conv2d_backward"]


def test_the_batch_is_one_call_of_the_crf(device):
    unary, image = crf_batch(device)
    features = torch.randn(30, 2, device=device)
    crfs = {
        "dense_crf": lambda u, i: dense_crf(u, i, PARAMS, iterations=2),
        "dense_crf_images": lambda u, i: dense_crf(
            u, i, PARAMS, iterations=2, sizes=[(4, 5), (6, 0)]
        ),
        "mean_field": lambda u, i: mean_field(u.flatten(2), [(features, 2.0)], iterations=2),
    }
    for name, crf in crfs.items():
        found, calls = counted(torch.vmap(crf), unary, image)
        assert calls == [name]
        assert torch.equal(found, each(crf, unary, image))


def test_lists_of_images(device):
    unary, image = crf_batch(device)

    def second(unary, image):
        cut = [unary[0], unary[1][:, :4]], [image[0], image[1][:, :4]]
        return dense_crf(*cut, PARAMS, iterations=2)[1]

    assert torch.equal(torch.vmap(second)(unary, image), each(second, unary, image))


def test_samples_of_weights(device):
    unary, image = (t[0] for t in crf_batch(device))
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, device=device)
    for sizes in (None, [(4, 5), (6, 0)]):

        def loss(w, sizes=sizes):
            params = CRFParams(w, 30, 10, 3, 3)
            return dense_crf(unary, image, params, iterations=2, sizes=sizes).square().sum()

        close(torch.vmap(loss)(weights), each(loss, weights))
        close(torch.vmap(grad(loss))(weights), each(grad(loss), weights))


@pytest.mark.parametrize("filters", [2, _conv_choice.MANY_FILTERS])
def test_auto_in_the_layout_that_is_faster(filters):
    """On the CPU a copy to channels_last, which torch.vmap does not know by name."""
    rate = max(_conv_choice.CHANNELS_LAST_FROM_RATE.values())
    x, weight = torch.randn(SAMPLES, 1, 2, 9, 9), torch.randn(filters, 2, 3, 3)

    def loss(x, weight):
        return dn.atrous_conv2d(x, weight, padding=rate, rate=rate).square().sum()

    close(torch.vmap(loss, (0, None))(x, weight), each(lambda x: loss(x, weight), x))
    found = torch.vmap(grad(loss, 1), (0, None))(x, weight)
    close(found, each(lambda x: grad(loss, 1)(x, weight), x))


def test_channels_last_stays():
    x = torch.randn(SAMPLES * 2, 4, 6, 5).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(8, 4, 3, 3)
    samples = x.unflatten(0, (SAMPLES, 2))
    for fn in (
        lambda x: dn.atrous_conv2d(x, weight, algorithm="im2col"),
        lambda x: dn.space_to_batch(x, 2),
    ):
        out = torch.vmap(fn)(samples)
        assert out[0].is_contiguous(memory_format=torch.channels_last)


def test_gradients_of_features_and_images(device):
    """vmap hides from the functions what is differentiated; where there is none it is an error."""
    unary, image = crf_batch(device)
    values, features = torch.randn(SAMPLES, 7, 2), torch.randn(SAMPLES, 7, 3)
    values, features = values.to(device), features.to(device)

    def by_image(image, scale=1.0):
        crf = partial(dense_crf, params=PARAMS, iterations=1, scale=scale)
        return torch.vmap(crf)(unary, image).square().sum()

    def by_filter(features):
        return torch.vmap(dn.permutohedral_filter)(values, features).square().sum()

    def by_field(features):
        field = torch.vmap(lambda u, f: mean_field(u, [(f, 1.0)], iterations=1))
        return field(unary.flatten(3)[..., :7], features).square().sum()

    for function, argument in (
        (by_image, image.double()),
        (by_filter, features),
        (by_field, features),
    ):
        leaf = argument.clone().requires_grad_()
        (expected,) = torch.autograd.grad(function(leaf), leaf)
        assert expected.abs().sum() > 0
        torch.testing.assert_close(grad(function)(argument), expected)
    with pytest.raises(ValueError, match=r"image: no gradient .* pass image.detach\(\)"):
        grad(partial(by_image, scale=0.5))(image.double())


def test_mean_field_keeps_state(device):
    unary, image = crf_batch(device)
    features = torch.randn(30, 2, device=device)
    field = MeanField(unary[0].flatten(2), [(features, 2.0)])
    refused = [
        lambda u, i: MeanField(u.flatten(2), [(features, 2.0)]).start(),
        lambda u, i: MeanField.from_image(u, i, PARAMS).start(),
        lambda u, i: MeanField.from_image(unary[0], i, PARAMS).start(),
        lambda u, i: field.step(u.flatten(2)),
    ]
    for function in refused:
        with pytest.raises(RuntimeError, match=r"MeanField: keeps state.*mean_field or dense_crf"):
            torch.vmap(function)(unary, image)
    scaled = torch.vmap(lambda u: u.sum() * field.start())(unary)  # what is no sample's it may use
    assert scaled.shape == (SAMPLES, 2, 3, 30)


@without_warnings_of_torch
def test_messages_of_derivatives_that_are_not_there():
    unary, image = (t[0] for t in crf_batch("cpu"))

    def crf(unary):
        return dense_crf(unary, image, PARAMS, iterations=1)

    with pytest.raises(NotImplementedError, match=r"dense_crf: has no forward-mode.*jacrev"):
        jvp(crf, (unary,), (unary,))
    with pytest.raises(RuntimeError, match="dense_crf: no second derivatives"):
        grad(lambda u: grad(lambda u: crf(u).sin().sum())(u).sin().sum())(unary)


def test_autocast():
    x, weight = torch.randn(SAMPLES, 1, 2, 6, 6), torch.randn(3, 2, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = torch.vmap(lambda x: dn.aspp(x, [weight], None, [2]))(x)
        assert out.dtype == torch.bfloat16
        _, pull = vjp(lambda w: dn.aspp(x[0], [w], None, [2]).float().sum(), weight)
        assert pull(torch.ones(()))[0].dtype == torch.float32


@without_warnings_of_torch
def test_compiled():
    """Transforms within what is compiled."""
    x, weight = torch.randn(SAMPLES, 1, 2, 6, 6), torch.randn(3, 2, 3, 3)

    def loss(weight, x):
        return dn.aspp(x, [weight, weight], None, [1, 2]).sin().sum()

    def all_of_it(weight, x):
        tangent = jvp(lambda w: loss(w, x[0]), (weight,), (weight,))[1]
        return torch.vmap(grad(loss), (None, 0))(weight, x), tangent

    compiled = torch.compile(all_of_it, backend="aot_eager", fullgraph=True)
    close(compiled(weight, x), all_of_it(weight, x))
