"""Gradients of `dense_crf` with respect to its parameters and images; the result stays."""

import dataclasses

import pytest
import torch

import deeplab_native as dn
from deeplab_native import CRFParams
from python_tests.ops import reference_lattice_gradient as reference

NAMES = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma")
NUMBERS = CRFParams(2, 4, 40, 1.5, 2)
SIZE = (5, 6)


def tensors_of(params=NUMBERS, device="cpu", dtype=torch.float32):
    """The same parameters as tensors that require a gradient."""
    values = {n: torch.tensor(getattr(params, n), dtype=dtype, device=device) for n in NAMES}
    return CRFParams(**{n: v.requires_grad_() for n, v in values.items()})


def leaves_of(params):
    return [getattr(params, name) for name in NAMES]


def problem(device="cpu", *, labels=3, size=SIZE, channels=3, batch=2, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    unary = torch.randn(batch, labels, *size, generator=generator, dtype=torch.float64)
    image = torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64) * 255
    return unary.to(device, dtype), image.float().to(device)


def slow_crf(unary, image, params, iterations):
    """(B, L, H, W), float64, of 0-dimensional tensors."""
    batch, labels, height, width = unary.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    where = torch.stack((x, y), -1).flatten(0, 1).double()
    results = []
    for b in range(batch):
        colours = image[b].flatten(1).T / params.sigma_beta
        bilateral = torch.cat((where / params.sigma_alpha, colours), 1)
        kernels = [
            (where / params.sigma_gamma, params.w2, "symmetric"),
            (bilateral, params.w1, "symmetric"),
        ]
        q = reference.MeanField(unary[b].flatten(1), kernels).inference(iterations)
        results.append(q.view(labels, height, width))
    return torch.stack(results)


def test_every_parameter_and_the_image(device):
    unary, image = problem(device, dtype=torch.float64)
    grad = torch.randn_like(unary)
    params = tensors_of(device=device)
    leaves = [unary.requires_grad_(), image.requires_grad_(), *leaves_of(params)]
    actual = torch.autograd.grad(dn.dense_crf(unary, image, params, iterations=3), leaves, grad)
    slow = [t.detach().cpu().double().requires_grad_() for t in leaves]
    own = CRFParams(**dict(zip(NAMES, slow[2:], strict=True)))
    expected = torch.autograd.grad(slow_crf(*slow[:2], own, 3), slow, grad.cpu())
    for a, e in zip(actual, expected, strict=True):
        scale = float(e.abs().max())
        torch.testing.assert_close(a.cpu().double(), e, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", ["image", "sigmas", "both"])
@pytest.mark.parametrize("size", [(12, 33), (3, 5, 9)])
def test_result_is_the_same_to_the_bit(size, kind, device):
    """Whoever makes the features: the lattices are the same, and so is the order of the pixels."""
    unary, image = problem(device, size=size)
    numbers = CRFParams(4, 7.3, 13.7, 3, 1.9)
    spacing = None if len(size) == 2 else (2.5, 0.7, 0.9)
    expected = dn.dense_crf(unary, image, numbers, spacing=spacing)
    if kind != "sigmas":
        image = image.requires_grad_()
    params = numbers if kind == "image" else tensors_of(numbers, device, torch.float64)
    actual = dn.dense_crf(unary, image, params, spacing=spacing)
    assert actual.requires_grad and torch.equal(actual, expected)
    with torch.no_grad():
        assert torch.equal(dn.dense_crf(unary, image, params, spacing=spacing), expected)


def test_lists_and_sizes(device):
    unary, image = problem(device, size=(9, 20))
    params, sizes = tensors_of(device=device), [(9, 20), (4, 13)]
    cut = [(slice(None), slice(h), slice(w)) for h, w in sizes]
    leaves = [unary.requires_grad_(), image.requires_grad_(), *leaves_of(params)]
    alone = [dn.dense_crf(unary[b][c], image[b][c], params) for b, c in enumerate(cut)]
    listed = dn.dense_crf(
        [unary[b][c] for b, c in enumerate(cut)], [image[b][c] for b, c in enumerate(cut)], params
    )
    padded = dn.dense_crf(unary, image, params, sizes=sizes)
    results = [alone, listed, [padded[b][c] for b, c in enumerate(cut)]]
    first, *others = [
        torch.autograd.grad(sum(q.square().sum() for q in qs), leaves) for qs in results
    ]
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-5, atol=1e-5)


def test_one_sigma_for_each_axis_and_channel(device):
    """Their sum is the gradient of a sigma that is the same for all."""
    unary, image = problem(device, dtype=torch.float64)
    one = tensors_of(device=device)
    each = {
        n: getattr(one, n).detach().repeat(3 if n == "sigma_beta" else 2).requires_grad_()
        for n in ("sigma_alpha", "sigma_beta", "sigma_gamma")
    }
    several = dataclasses.replace(one, **each)
    q = dn.dense_crf(unary, image, one)
    assert torch.equal(dn.dense_crf(unary, image, several), q)
    own = [getattr(one, n) for n in each]
    expected = torch.autograd.grad(q.square().sum(), own)
    q = dn.dense_crf(unary, image, several)
    actual = torch.autograd.grad(q.square().sum(), list(each.values()))
    torch.testing.assert_close([a.sum() for a in actual], list(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("ndim", [1, 2])
def test_compatibilities_in_place_of_weights(ndim, scale, device):
    unary, image = problem(device, dtype=torch.float64, labels=4)
    eye = -torch.eye(4, dtype=torch.float64, device=device)
    shape = eye if ndim == 2 else eye.diagonal()
    own = {n: (getattr(NUMBERS, n) * shape).clone().requires_grad_() for n in ("w1", "w2")}
    params = dataclasses.replace(NUMBERS, **own)
    expected = dn.dense_crf(unary, image, NUMBERS, scale=scale)
    q = dn.dense_crf(unary, image, params, scale=scale)
    torch.testing.assert_close(q, expected, rtol=0, atol=1e-9)
    grads = torch.autograd.grad(q.square().sum(), list(own.values()))
    numbers = tensors_of(device=device, dtype=torch.float64)
    numbers = dataclasses.replace(NUMBERS, w1=numbers.w1, w2=numbers.w2)
    q = dn.dense_crf(unary, image, numbers, scale=scale)
    expected = torch.autograd.grad(q.square().sum(), (numbers.w1, numbers.w2))
    for g, e in zip(grads, expected, strict=True):
        torch.testing.assert_close((g * shape).sum(), e, rtol=1e-6, atol=1e-8)


def test_matrix_gradcheck(device):
    unary, image = problem(device, dtype=torch.float64, batch=1)
    matrix = torch.rand(3, 3, dtype=torch.float64, device=device).requires_grad_()

    def marginals(matrix):
        params = dataclasses.replace(NUMBERS, w1=-matrix)
        return dn.dense_crf(unary, image, params, iterations=2)

    assert torch.autograd.gradcheck(marginals, matrix)


def test_compile_and_autocast(device):
    unary, image = problem(device)
    params = tensors_of(device=device)

    def marginals(unary, image, *leaves):
        own = CRFParams(**dict(zip(NAMES, leaves, strict=True)))
        return dn.dense_crf(unary, image, own, iterations=2)

    leaves = [unary.requires_grad_(), image.requires_grad_(), *leaves_of(params)]
    expected = torch.autograd.grad(marginals(*leaves).square().sum(), leaves)
    compiled = torch.compile(marginals, fullgraph=True, backend="aot_eager")
    actual = torch.autograd.grad(compiled(*leaves).square().sum(), leaves)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        q = marginals(*leaves)
        assert q.dtype == torch.float32
        actual = torch.autograd.grad(q.square().sum(), leaves)
    assert all(map(torch.equal, actual, expected))


def test_torch_func(device):
    """`grad` with respect to a sigma, and `vmap` of images and sigmas."""
    unary, image = problem(device, dtype=torch.float64)
    sigmas = torch.tensor([40.0, 60.0], device=device)

    def loss(sigma, unary, image):
        params = dataclasses.replace(NUMBERS, sigma_beta=sigma)
        return dn.dense_crf(unary, image, params, iterations=2).square().sum()

    expected = []
    for sigma, u, i in zip(sigmas, unary, image, strict=True):
        leaves = sigma.clone().requires_grad_(), i.clone().requires_grad_()
        expected.append(torch.autograd.grad(loss(leaves[0], u, leaves[1]), leaves))
    grads = torch.func.grad(loss, argnums=(0, 2))
    alone = [grads(*one) for one in zip(sigmas, unary, image, strict=True)]
    torch.testing.assert_close(alone, expected, rtol=1e-6, atol=1e-8)
    together = torch.vmap(grads)(sigmas, unary, image)
    for k in range(2):
        stacked = torch.stack([e[k] for e in expected])
        torch.testing.assert_close(together[k], stacked, rtol=1e-5, atol=1e-7)


U, IMAGE = torch.zeros(1, 3, 8, 9), torch.rand(1, 3, 8, 9) * 255


def of_sigma(value, name="sigma_beta"):
    return dataclasses.replace(NUMBERS, **{name: torch.tensor(value).requires_grad_()})


@pytest.mark.parametrize(
    ("params", "how", "error", "message"),
    [
        (of_sigma(-1.0), {}, ValueError, "params.sigma_beta: expected a positive number, got -1"),
        (of_sigma(torch.nan), {}, ValueError, "params.sigma_beta: expected a positive num.*nan"),
        (of_sigma([3.0, 0.0, 3.0]), {}, ValueError, r"params.sigma_beta\[1\]: expected a posit"),
        (of_sigma(1e-7), {}, ValueError, "params.sigma_beta: got .*, which is too small"),
        (of_sigma(1e-7, "sigma_alpha"), {}, ValueError, "params.sigma_alpha: got .* too small"),
        (of_sigma(1e-7, "sigma_gamma"), {}, ValueError, "params.sigma_gamma: got .* too small"),
        (of_sigma([3.0, 3.0]), {}, ValueError, "params.sigma_beta: expected .* of the 3 channels"),
        (of_sigma([3.0] * 3, "sigma_gamma"), {}, ValueError, "params.sigma_gamma: .* the 2 axes"),
        (of_sigma(3.0), {"scale": 0.5}, ValueError, "params.sigma_beta: has no gradient with sc"),
    ],
)
def test_bad_sigmas(params, how, error, message):
    with pytest.raises(error, match=message):
        dn.dense_crf(U, IMAGE, params, **how)


@pytest.mark.parametrize("algorithm", ["lattice", "exact"])
@pytest.mark.parametrize("sigma", [(1, 2, 3), torch.ones(3)])
def test_sigmas_of_the_wrong_number_beside_a_tensor(algorithm, sigma):
    params = dataclasses.replace(of_sigma(3.0), sigma_alpha=sigma)
    message = r"params.sigma_alpha: .* one for each of the 2 axes \(y, x\), got 3"
    with pytest.raises(ValueError, match=message):
        dn.dense_crf(U, IMAGE, params, algorithm=algorithm)


def test_bad_images():
    image = IMAGE.clone().requires_grad_()
    with pytest.raises(ValueError, match=r"image: has no gradient with scale=0\.5"):
        dn.dense_crf(U, image, NUMBERS, scale=0.5)
    with pytest.raises(ValueError, match="image: expected finite values"):
        dn.dense_crf(U, image / 0, NUMBERS)
    with pytest.raises(ValueError, match=r"image\[0\]: expected finite values"):
        dn.dense_crf([U], [image / 0], NUMBERS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sigma_beta", torch.ones(2, 2), "sigma_beta: expected a number or a 0-dimensional"),
        ("sigma_beta", torch.tensor(3), "sigma_beta: expected a number or a 0-dimensional"),
        ("w1", torch.ones(2, 2, 2), "w1: expected a number or a 0-dimensional"),
    ],
)
def test_tensors_that_are_no_parameters(name, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(NUMBERS, **{name: value})


def test_a_lattice_that_memory_does_not_hold(monkeypatch):
    """Known before the rows on its vertices are made, and said of the sigmas."""
    monkeypatch.setattr("deeplab_native._memory._LEAST", 0)
    monkeypatch.setattr("deeplab_native._memory.available_memory", lambda: 12_000)
    coarse, fine = of_sigma(1e3), of_sigma(0.1)
    dn.dense_crf(U, IMAGE, coarse, iterations=1)
    with pytest.raises(MemoryError, match=r"params.sigma_beta: got 0.1.*: .* vertices.* GB"):
        dn.dense_crf(U, IMAGE, fine, iterations=1)


@pytest.mark.parametrize("value", [torch.nan, 1e-9])
def test_bad_sigmas_give_nan_on_cuda(value, cuda_device):
    """To look at them would be to wait for the device."""
    unary, image = problem(cuda_device)
    params = dataclasses.replace(NUMBERS, sigma_beta=torch.tensor(value, device=cuda_device))
    assert dn.dense_crf(unary, image, params).isnan().all()
