"""Ways of calling: one image without a batch, half precision, channels last, NumPy arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import deeplab_native as dn
from deeplab_native.ops.pairwise_features import image_features

pytestmark = pytest.mark.unsanitized  # kernels that other tests run, too


HALF = [torch.float16, torch.bfloat16]


@pytest.fixture
def small(photo_on):
    unary, image, params = photo_on
    return unary[:, :, 8:20, 6:22], image[:, :, 8:20, 6:22], params


def test_one_image_is_a_batch_of_one(small):
    unary, image, params = small
    expected = dn.dense_crf(unary[:1], image[:1], params)
    for u, i in ((unary[0], image[0]), (unary[0], image[:1]), (unary[:1], image[0])):
        q = dn.dense_crf(u, i, params)
        assert q.shape == u.shape and q.is_contiguous()
        assert torch.equal(q.view_as(expected), expected)
    q = dn.dense_crf(unary[0], image[0], params, sizes=[(9, 11)])
    assert torch.equal(q[None], dn.dense_crf(unary[:1], image[:1], params, sizes=[(9, 11)]))
    q = dn.dense_crf(unary[0], image[0] / 255, params, scale=0.5, image_range=(0, 1))
    assert torch.equal(q[None], dn.dense_crf(unary[:1], image[:1], params, scale=0.5))


def test_gradient_of_one_image(small):
    unary, image, params = small
    one = unary[0].clone().requires_grad_()
    (grad,) = torch.autograd.grad(dn.dense_crf(one, image[0], params).square().sum(), one)
    batch = unary[:1].clone().requires_grad_()
    (expected,) = torch.autograd.grad(dn.dense_crf(batch, image[:1], params).square().sum(), batch)
    assert torch.equal(grad[None], expected)


def test_vmap_over_single_images_is_the_batch(small):
    unary, image, params = small
    of_each = torch.vmap(lambda u, i: dn.dense_crf(u, i, params, image_range=(0, 1)))
    expected = dn.dense_crf(unary, image, params)
    assert torch.equal(
        of_each(unary.bfloat16().float(), image / 255), of_each(unary.bfloat16(), image / 255)
    )
    assert torch.equal(of_each(unary, image / 255), expected)
    gradient = torch.func.grad(lambda u: dn.dense_crf(u, image[0], params).square().sum())
    batch = torch.func.grad(lambda u: dn.dense_crf(u, image[:1], params).square().sum())
    assert torch.equal(gradient(unary[0])[None], batch(unary[:1]))


def features(image, params):
    return image_features(image, params.sigma_alpha, params.sigma_beta)


def test_one_image_step_by_step(small):
    unary, image, params = small
    own = features(image, params)
    pairs = [
        (
            dn.MeanField.from_image(unary[0], image[0], params),
            dn.MeanField.from_image(unary[:1], image[:1], params),
            unary[0].shape,
        ),
        (
            dn.MeanField(unary[0].flatten(1), [(own[0], 3.0)]),
            dn.MeanField(unary[:1].flatten(2), [(own[:1], 3.0)]),
            unary[0].flatten(1).shape,
        ),
    ]
    for one, batch, shape in pairs:
        q = one.step(one.start())
        assert q.shape == one.inference(2).shape == shape
        assert torch.equal(q, batch.step(batch.start())[0])
        assert torch.equal(one.inference(2), batch.inference(2)[0])
        assert one.kl_divergence(q).shape == ()
        assert torch.equal(one.kl_divergence(q), batch.kl_divergence(q[None])[0])
        assert one.num_vertices == batch.num_vertices
        with pytest.raises(ValueError, match="q: expected shape"):
            one.step(q[None])


def test_one_image_of_points(small):
    unary, image, params = small
    own, u = features(image, params), unary.flatten(2)
    expected = dn.mean_field(u[:1], [(own[:1], 3.0)])
    for f in (own[0], own[:1]):
        q = dn.mean_field(u[0], [(f, 3.0)])
        assert q.shape == u[0].shape and torch.equal(q[None], expected)


def test_one_score_map(device):
    scores = torch.randn(2, 3, 4, 5, device=device, dtype=torch.float64, requires_grad=True)
    expected = dn.upsample_unary(scores, (9, 11), (8, 10))
    one = dn.upsample_unary(scores[1], (9, 11), (8, 10))
    assert one.shape == (3, 8, 10) and torch.equal(one, expected[1])
    (grad,) = torch.autograd.grad(one.square().sum(), scores)
    (of_batch,) = torch.autograd.grad(expected[1].square().sum(), scores)
    assert torch.equal(grad, of_batch)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_widened(small, dtype):
    """As within autocast, in which these were float32 before."""
    unary, image, params = small
    low = unary.to(dtype)
    expected = dn.dense_crf(low.float(), image, params)
    own, flat = features(image, params), low.flatten(2)
    for q in (
        dn.dense_crf(low, image, params),
        torch.stack(dn.dense_crf([*low], [*image], params)),
        dn.MeanField.from_image(low, image, params).inference(10),
    ):
        assert q.dtype == torch.float32 and torch.equal(q, expected)
    expected = dn.mean_field(flat.float(), [(own, 3.0)])
    for q in (dn.mean_field(flat, [(own, 3.0)]), dn.MeanField(flat, [(own, 3.0)]).inference(10)):
        assert q.dtype == torch.float32 and torch.equal(q, expected)
    filtered = dn.permutohedral_filter(flat.mT, own)
    assert torch.equal(filtered, dn.permutohedral_filter(flat.mT.float(), own))


@pytest.mark.parametrize("dtype", HALF)
def test_gradient_in_half_precision(small, dtype):
    unary, image, params = small
    low = unary.to(dtype).requires_grad_()
    (grad,) = torch.autograd.grad(dn.dense_crf(low, image, params).square().sum(), low)
    wide = low.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(dn.dense_crf(wide, image, params).square().sum(), wide)
    assert grad.dtype == dtype and torch.equal(grad, expected.to(dtype))


def test_half_precision_compiles(small):
    unary, image, params = small
    low, image = unary.bfloat16(), image.half()
    compiled = torch.compile(
        lambda u, i: dn.dense_crf(u, i, params, iterations=2), fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(compiled(low, image), dn.dense_crf(low, image, params, iterations=2))
    assert torch.equal(
        compiled(low[0], image[0])[None], dn.dense_crf(low[:1], image[:1], params, iterations=2)
    )


U, IMAGE = torch.zeros(1, 4, 5, 6), torch.zeros(1, 3, 5, 6, dtype=torch.uint8)
LAST, U_LAST = IMAGE.permute(0, 2, 3, 1), U.permute(0, 2, 3, 1)
PARAMS = dn.CRFParams.preset("voc-resnet101")
OF_BATCH, OF_ONE = r"permute\(0, 3, 1, 2\)\)", r"permute\(2, 0, 1\)\)"


@pytest.mark.parametrize(
    ("unary", "image", "message"),
    [
        (U, LAST, rf"image: got shape \(1, 5, 6, 3\), .* \(channels first: {OF_BATCH}"),
        (U[0], LAST[0], rf"image: got shape \(5, 6, 3\), .* \(channels first: {OF_ONE}"),
        (U[:1], LAST[0], rf"image: got shape \(5, 6, 3\), .* \(channels first: {OF_ONE}"),
        (U_LAST, IMAGE, rf"unary: got shape \(1, 5, 6, 4\), .* \(channels first: {OF_BATCH}"),
        (U_LAST[0], IMAGE[0], rf"unary: got shape \(5, 6, 4\), .* \(channels first: {OF_ONE}"),
        (U_LAST, LAST, rf"image: got shape \(1, 5, 6, 3\), .* \(channels first: {OF_BATCH}"),
    ],
)
def test_channels_last(unary, image, message):
    for call in (dn.dense_crf, dn.MeanField.from_image):
        with pytest.raises(ValueError, match=message):
            call(unary, image, PARAMS)
    one = message.replace("image:", r"image\[0\]:").replace("unary:", r"unary\[0\]:")
    with pytest.raises(ValueError, match=one):
        dn.dense_crf([unary], [image], PARAMS)


def test_channels_last_of_volumes():
    unary, volume = torch.zeros(2, 3, 4, 5, 6), torch.zeros(2, 4, 5, 6, 1)
    for call in (dn.dense_crf, dn.MeanField.from_image):
        with pytest.raises(ValueError, match=r"image: got .* first: permute\(0, 4, 1, 2, 3\)\)"):
            call(unary, volume, PARAMS)
        with pytest.raises(ValueError, match=r"image: got .* first: permute\(3, 0, 1, 2\)\)"):
            call(unary[:1], volume[0], PARAMS)
    with pytest.raises(ValueError, match=r"image\[0\]: got .* first: permute\(3, 0, 1, 2\)\)"):
        dn.dense_crf([unary[0]], [volume[0]], PARAMS)
    with pytest.raises(ValueError, match=r"unary\[0\]: got .* first: permute\(3, 0, 1, 2\)\)"):
        dn.dense_crf([unary[0].permute(1, 2, 3, 0)], [volume[0].permute(3, 0, 1, 2)], PARAMS)


def test_grey_images_of_channels_last():
    with pytest.raises(ValueError, match=rf"image: got shape \(1, 5, 6, 1\), .* {OF_BATCH}"):
        dn.dense_crf(U, LAST[..., :1], PARAMS)


def test_other_sizes_are_no_channels_last():
    with pytest.raises(ValueError, match=r"image: expected shape \(C, 5, 6\) .* got \(3, 6, 5\)"):
        dn.dense_crf(U[0], IMAGE[0].mT, PARAMS)
    with pytest.raises(ValueError, match=r"image: expected shape \(1, C, 5, 6\)"):
        dn.dense_crf(U, IMAGE.mT, PARAMS)
    # as wide as it has channels: no doubt, since it fits
    square = torch.rand(1, 3, 3, 3) * 255
    assert dn.dense_crf(U[:1, :, :3, :3], square, PARAMS).shape == (1, 4, 3, 3)


REFINE = r"\(torch.from_numpy\({}\) makes one; deeplab_native.refine takes NumPy arrays\)"
PLAIN = r"\(torch.from_numpy\({}\) makes one\)"
X, W, F = torch.zeros(1, 4, 9, 9), torch.zeros(2, 4, 3, 3), torch.zeros(30, 2)


@pytest.mark.parametrize(
    ("call", "name", "remedy"),
    [
        (lambda: dn.dense_crf(U.numpy(), IMAGE, PARAMS), "unary", REFINE),
        (lambda: dn.dense_crf(U.numpy(), IMAGE.numpy(), PARAMS), "unary", REFINE),
        (lambda: dn.dense_crf(U, IMAGE.numpy(), PARAMS), "image", REFINE),
        (lambda: dn.dense_crf([U[:1].numpy()], [IMAGE[:1]], PARAMS), r"unary\[0\]", REFINE),
        (lambda: dn.dense_crf([U[:1]], [IMAGE[:1].numpy()], PARAMS), r"image\[0\]", REFINE),
        (lambda: dn.MeanField.from_image(U.numpy(), IMAGE, PARAMS), "unary", REFINE),
        (lambda: dn.MeanField.from_image(U, IMAGE.numpy(), PARAMS), "image", REFINE),
        (
            lambda: dn.mean_field(U.flatten(2).numpy(), []),
            "unary",
            PLAIN[:-2] + r"; deeplab_native.pydensecrf.densecrf.DenseCRF takes NumPy arrays\)",
        ),
        (lambda: dn.mean_field(U.flatten(2), [(F.numpy(), 1)]), r"kernels\[0\].features", PLAIN),
        (lambda: dn.permutohedral_filter(F.numpy(), F), "values", PLAIN),
        (lambda: dn.permutohedral_filter(F, F.numpy()), "features", PLAIN),
        (lambda: image_features(IMAGE.numpy(), 3, 3), "image", PLAIN),
        (lambda: dn.upsample_unary(X.numpy(), 9), "scores", PLAIN),
        (lambda: dn.atrous_conv2d(X.numpy(), W), "input", PLAIN),
        (lambda: dn.atrous_conv2d(X, W.numpy()), "weight", PLAIN),
        (lambda: dn.AtrousConv2d(4, 2, 3)(X.numpy()), "input", PLAIN),
        (lambda: dn.aspp(X.numpy(), [W], None, [2]), "input", PLAIN),
        (lambda: dn.aspp(X, [W.numpy()], None, [2]), r"weights\[0\]", PLAIN),
        (lambda: dn.ASPP(4, 2, [2])(X.numpy()), "input", PLAIN),
        (lambda: dn.atrous_im2col(X.numpy(), 3), "input", PLAIN),
        (lambda: dn.space_to_batch(X.numpy(), 2), "input", PLAIN),
    ],
)
def test_numpy_arrays(call, name, remedy):
    message = f"^{name}: expected a torch.Tensor, got ndarray {remedy.format(name)}$"
    with pytest.raises(TypeError, match=message):
        call()


def test_what_errors_name_exists():
    """And takes what they say."""
    image, labels = IMAGE[0].permute(1, 2, 0).numpy(), U[0, 0].long().numpy()
    assert dn.refine(image, labels).shape == labels.shape
    assert callable(dn.pydensecrf.densecrf.DenseCRF)


def test_pictures():
    message = (
        r"image: expected a torch.Tensor, got Image \(torch.from_numpy\(numpy.array\(image\)\)"
    )
    with pytest.raises(TypeError, match=message):
        dn.dense_crf(U, Image.fromarray(np.zeros((5, 6, 3), np.uint8)), PARAMS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dn.atrous_conv2d(X.byte(), W), "input: .* got torch.uint8 .input.to"),
        (lambda: dn.atrous_conv2d(X, W.int()), "weight: .* got torch.int32 .weight.to"),
        (lambda: dn.aspp(X.long(), [W], None, [2]), "input: .* got torch.int64 .input.to"),
        (lambda: dn.aspp(X, [W.long()], None, [2]), r"weights\[0\]: .* got torch.int64"),
        (lambda: dn.atrous_im2col(X.bool(), 3), "input: .* got torch.bool .input.to"),
        (lambda: dn.upsample_unary(X.int(), 9), "scores: .* got torch.int32 .scores.to"),
        (lambda: dn.mean_field(U.long().flatten(2), []), "unary: .* got torch.int64 .unary.to"),
        (lambda: dn.permutohedral_filter(F.long(), F), "values: .* got torch.int64 .values.to"),
        (
            lambda: dn.dense_crf(U.long(), IMAGE, PARAMS),
            "unary: .* .deeplab_native.refine takes la",
        ),
        (
            lambda: dn.dense_crf(U[:, 0].long(), IMAGE[:1], PARAMS),
            "unary: .* got torch.int64 .deeplab_native.refine takes labels",
        ),
        (
            lambda: dn.dense_crf([U[0].long()], [IMAGE[0]], PARAMS),
            r"unary\[0\]: .* got torch.int64 .deeplab_native.refine takes labels",
        ),
    ],
)
def test_integers_where_floats_are_meant(call, message):
    with pytest.raises(TypeError, match=message):
        call()
