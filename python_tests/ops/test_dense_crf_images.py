"""dense_crf on images of different sizes: lists, and padded batches with sizes."""

import pytest
import torch

import deeplab_native as dn
from deeplab_native.ops._dense_crf_images import _backward_op, dense_crf_of_images

SIZES = [(30, 41), (17, 22), (30, 41), (5, 1), (0, 3)]
PARAMS = dn.CRFParams(4, 30, 20, 3, 3)


@pytest.fixture
def different(photo_on):
    """Unaries (4, h, w) and images (3, h, w), parts of the photo."""
    unary, image, _ = photo_on
    return [
        [t[i % 2, :, :h, :w].contiguous() for i, (h, w) in enumerate(SIZES)] for t in (unary, image)
    ]


def alone(unary, image, **options):
    return dn.dense_crf(unary[None], image[None], PARAMS, **options)[0]


@pytest.mark.parametrize("options", [{}, {"scale": 0.5, "normalization": "after"}])
def test_a_list_equals_its_images(different, options):
    unaries, images = different
    results = dn.dense_crf(tuple(unaries), images, PARAMS, **options)
    assert isinstance(results, list)
    for q, unary, image in zip(results, unaries, images, strict=True):
        assert torch.equal(q, alone(unary, image, **options))
        assert q.is_contiguous()
    assert dn.dense_crf([], [], PARAMS) == []


def test_each_result_has_the_shape_of_its_unary(different):
    unaries, images = different
    results = dn.dense_crf([unaries[0][None], unaries[1]], [images[0], images[1][None]], PARAMS)
    assert [q.shape for q in results] == [(1, 4, 30, 41), (4, 17, 22)]
    assert torch.equal(results[0][0], alone(unaries[0], images[0]))


def padded(unaries, images):
    """In a batch whose padding is NaN and noise."""
    unary = unaries[0].new_full((len(unaries), 4, 30, 41), torch.nan)
    image = torch.randint(0, 256, (len(images), 3, 30, 41), device=unary.device)
    image = image.to(torch.uint8)
    for b, (u, i) in enumerate(zip(unaries, images, strict=True)):
        unary[b, :, : u.shape[1], : u.shape[2]] = u
        image[b, :, : u.shape[1], : u.shape[2]] = i
    return unary, image


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_padded_batch_equals_its_images(different, as_tensor):
    sizes = torch.tensor(SIZES, dtype=torch.int32, device="cpu") if as_tensor else SIZES
    q = dn.dense_crf(*padded(*different), PARAMS, sizes=sizes)
    for one, unary, image in zip(q, *different, strict=True):
        height, width = unary.shape[1:]
        assert torch.equal(one[:, :height, :width], alone(unary, image))
        one[:, :height, :width] = 0
    assert torch.equal(q, torch.zeros_like(q))  # outside


def test_gradients_equal_those_of_the_images(different):
    unaries, images = different
    weights = [unaries[0].new_tensor(w, requires_grad=True) for w in (4.0, 3.0)]
    params = dn.CRFParams(weights[0], 30, 20, weights[1], 3)
    given = [u.clone().requires_grad_() for u in unaries]
    loss = sum(q.square().sum() for q in dn.dense_crf(given, images, params, iterations=3))
    actual = torch.autograd.grad(loss, [*given, *weights])

    unary, image = padded(unaries, images)
    unary.requires_grad_()
    loss = dn.dense_crf(unary, image, params, iterations=3, sizes=SIZES).square().sum()
    of_batch, *of_weights = torch.autograd.grad(loss, [unary, *weights])

    expected_weights = [torch.zeros_like(w) for w in weights]
    for i, (u, image) in enumerate(zip(unaries, images, strict=True)):
        u = u.clone().requires_grad_()
        q = dn.dense_crf(u[None], image[None], params, iterations=3)
        expected, *own = torch.autograd.grad(q.square().sum(), [u, *weights])
        assert torch.equal(actual[i], expected)
        height, width = u.shape[1:]
        assert torch.equal(of_batch[i, :, :height, :width], expected)
        of_batch[i, :, :height, :width] = 0
        for total, g in zip(expected_weights, own, strict=True):
            total += g
    assert torch.equal(of_batch, torch.zeros_like(of_batch))
    torch.testing.assert_close(actual[-2:], tuple(expected_weights))
    torch.testing.assert_close(of_weights, expected_weights)


def test_gradient_of_one_image_of_a_list(different):
    unaries, images = different
    given = [u.clone().requires_grad_() for u in unaries[:2]]
    q = dn.dense_crf(given, images[:2], PARAMS, iterations=2)
    grads = torch.autograd.grad(q[1].square().sum(), given, allow_unused=True)
    assert grads[0] is None or torch.equal(grads[0], torch.zeros_like(given[0]))
    assert grads[1].abs().sum() > 0


def test_gradcheck_opcheck_and_compile(different, set_threads):
    set_threads(1)
    unaries = [u[:2, :3, :4].double() for u in different[0][:2]]
    unaries[1] = unaries[1][:, :2]
    images = [i[:, :3, :4] for i in different[1][:2]]
    images[1] = images[1][:, :2]
    w1, w2 = (unaries[0].new_tensor(w, requires_grad=True) for w in (4.0, 3.0))

    def crf(a, b, w1, w2):
        return tuple(dn.dense_crf([a, b], images, dn.CRFParams(w1, 8, 30, w2, 2), iterations=3))

    given = (*(u.clone().requires_grad_() for u in unaries), w1, w2)
    assert torch.autograd.gradcheck(crf, given)
    arguments = (images, [w2, w1], [2.0] * 2 + [8.0] * 2 + [30.0] * 3, 3, 3)
    torch.library.opcheck(dense_crf_of_images, (list(given[:2]), *arguments, 1.0, False, False))
    detached = (images, [w2.detach(), w1.detach()], *arguments[2:], True, 1.0, False)
    torch.library.opcheck(_backward_op, (unaries, unaries, *detached))
    compiled = torch.compile(crf, fullgraph=True, backend="aot_eager")
    actual = torch.autograd.grad(sum(q.square().sum() for q in compiled(*given)), given)
    expected = torch.autograd.grad(sum(q.square().sum() for q in crf(*given)), given)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_compile_of_a_padded_batch(different):
    unary, image = padded(*different)

    def crf(unary):
        return dn.dense_crf(unary, image, PARAMS, iterations=1, sizes=SIZES)

    compiled = torch.compile(crf, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(unary), crf(unary))


U, PHOTO = torch.zeros(3, 4, 5), torch.zeros(3, 4, 5, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("unary", "image", "error", "message"),
    [
        (
            [U, U],
            PHOTO,
            TypeError,
            "image: expected a list of images for a list of unaries, got Ten",
        ),
        (U[None], [PHOTO], TypeError, "image: expected a torch.Tensor, got list"),
        ([U, U], [PHOTO], ValueError, "image: expected one for each of the 2 unaries, got 1"),
        (
            [U, U.numpy()],
            [PHOTO, PHOTO],
            TypeError,
            r"unary\[1\]: expected a torch.Tensor, got ndarray",
        ),
        ([U, U[0]], [PHOTO, PHOTO], ValueError, r"unary\[1\]: .* \(L, H, W\) or \(1, L, H, W\)"),
        (
            [U, torch.zeros(2, 3, 4, 5)],
            [PHOTO, PHOTO],
            ValueError,
            r"image\[1\]: .* as unary\[1\] is a volume, \(2, 3, 4, 5\), got shape \(3, 4, 5\)",
        ),
        ([U, U[:0]], [PHOTO, PHOTO], ValueError, r"unary\[1\]: expected at least one label"),
        (
            [U, U],
            [PHOTO, PHOTO[:1]],
            ValueError,
            r"image\[1\]: expected axes and channels as image\[0\], \(3, 4, 5\), got \(1, 4, 5\)",
        ),
        ([U, U], [PHOTO, PHOTO[:, :2]], ValueError, r"image\[1\]: expected shape \(C, 4, 5\)"),
        ([U, U], [PHOTO, PHOTO.int()], TypeError, r"image\[1\]: expected dtype torch.uint8"),
        (
            [U, U.double()],
            [PHOTO, PHOTO],
            TypeError,
            r"unary\[1\]: expected dtype torch.float32 as unary",
        ),
        (
            [U, U.to("meta")],
            [PHOTO, PHOTO],
            ValueError,
            r"unary\[1\]: expected device cpu .* got meta",
        ),
        (
            [U, U],
            [PHOTO, PHOTO.to("meta")],
            ValueError,
            r"image\[1\]: expected device cpu .* got meta",
        ),
        ([U, U / 0], [PHOTO, PHOTO], ValueError, r"unary\[1\]: expected finite energies"),
        (
            [U, U],
            [PHOTO, PHOTO + torch.nan],
            ValueError,
            r"image\[1\]: expected finite values 0..255",
        ),
        (
            [U, U],
            [PHOTO, PHOTO + 1e30],
            ValueError,
            r"image\[1\] / \(sigma_alpha, .* larger sigmas",
        ),
    ],
)
def test_bad_lists(unary, image, error, message, monkeypatch):
    def untouched(*args):
        raise AssertionError("an image was worked on")

    monkeypatch.setattr("deeplab_native.ops._dense_crf_images.dense_crf_of_batch", untouched)
    with pytest.raises(error, match=message):
        dn.dense_crf(unary, image, PARAMS)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        (3, TypeError, r"sizes: expected integers \(2, 2\), .* got int"),
        ([(4, 5)], ValueError, r"sizes: expected integers \(2, 2\), .* got 1 of them"),
        ([(4, 5), (4, 5, 6)], TypeError, r"sizes\[1\]: expected \(height, width\)"),
        ([(4, 5), (4, 5.0)], TypeError, r"sizes\[1\]: expected an integer, got 5.0"),
        ([(4, 5), (5, 5)], ValueError, r"sizes\[1\]: expected \(0, 0\) to \(4, 5\), got \(5, 5\)"),
        ([(4, 5), (4, -1)], ValueError, r"sizes\[1\]: expected at least 0, got -1"),
        (torch.ones(2, 2), TypeError, "sizes: .* got torch.float32"),
        (torch.ones(2, dtype=torch.int64), ValueError, r"sizes: .* got shape \(2,\)"),
        (torch.ones(2, 2).long().to("meta"), ValueError, "sizes: expected a tensor on the CPU"),
    ],
)
def test_bad_sizes(sizes, error, message):
    with pytest.raises(error, match=message):
        dn.dense_crf(torch.stack([U, U]), torch.stack([PHOTO, PHOTO]), PARAMS, sizes=sizes)


def test_sizes_of_a_list_are_refused():
    with pytest.raises(ValueError, match="sizes: expected None for a list"):
        dn.dense_crf([U], [PHOTO], PARAMS, sizes=[(4, 5)])
