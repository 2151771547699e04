"""The mean field with exact kernels against one with matrices of all pairs, by autograd, too."""

import itertools

import pytest
import torch

from deeplab_native import CRFParams, dense_crf, mean_field
from deeplab_native._native import on_cuda

NORMALIZATIONS = ("symmetric", "before", "after", "none")


def rand(*shape, device="cpu", seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def dense_mean_field(unary, kernels, iterations):
    """Q (B, L, N), of features (N, d) or (B, N, d), in the unary's dtype."""
    terms = []
    for features, c, normalization in kernels:
        squares = (features[..., :, None, :] - features[..., None, :, :]).square().sum(-1)
        k = (-squares / 2).exp()
        mass = k.sum(-1) + 1e-20
        if normalization == "symmetric":
            k = k / mass.sqrt()[..., :, None] / mass.sqrt()[..., None, :]
        elif normalization == "before":
            k = k / mass[..., None, :]
        elif normalization == "after":
            k = k / mass[..., :, None]
        matrix = torch.diag(c) if c.ndim == 1 else 0.5 * (c + c.mT) if c.ndim else -c
        terms.append((k, matrix))
    q = (-unary).softmax(1)
    for _ in range(iterations):
        x = -unary
        for k, matrix in terms:
            filtered = q @ k.mT
            x = x - (matrix @ filtered if matrix.ndim else matrix * filtered)
        q = x.softmax(1)
    return q


def image_kernels(image, params, normalization, spacing=1.0):
    """Those of `dense_crf`, of an image (B, C, ...)."""
    size = image.shape[2:]
    axes = [torch.arange(n, dtype=torch.float64, device=image.device) for n in size]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2) * spacing
    colours = image.double().flatten(2).mT
    both = torch.cat(
        [(places / params.sigma_alpha).expand(len(image), -1, -1), colours / params.sigma_beta], 2
    )
    weights = [torch.as_tensor(w, dtype=torch.float64) for w in (params.w2, params.w1)]
    features = places / params.sigma_gamma, both
    return [(f, w.to(image.device), normalization) for f, w in zip(features, weights, strict=True)]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("shape", [(), (3,), (3, 3)])
def test_equals_the_matrices(shape, normalization, device):
    unary = rand(2, 3, 40, device=device) * 2
    c = rand(*shape, device=device, seed=1) / (1 if normalization != "none" else 8)
    features = rand(40, 2, device=device, seed=2) * 2, rand(2, 40, 5, device=device, seed=3)
    kernels = [(f, c, normalization) for f in features]
    expected = dense_mean_field(unary, kernels, 4)
    actual = mean_field(unary, kernels, iterations=4, algorithm="exact")
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
    single = [(f.float(), c.float(), normalization) for f in features]
    narrow = mean_field(unary.float(), single, iterations=4, algorithm="exact")
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradcheck_of_a_mean_field(normalization, device):
    leaves = [
        rand(2, 3, 6, device=device),
        rand(6, 2, device=device, seed=1),
        rand(2, 6, 3, device=device, seed=2),
        rand(device=device, seed=3),
        rand(3, 3, device=device, seed=4),
    ]

    def field(unary, shared, own, weight, matrix):
        kernels = [(shared, weight, normalization), (own, matrix, normalization)]
        return mean_field(unary, kernels, iterations=2, algorithm="exact")

    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(field, leaves, fast_mode=on_cuda(leaves[0]))


def crf_case(device, size=(5, 6), batch=2):
    unary = rand(batch, 3, *size, device=device)
    image = (rand(batch, 3, *size, device=device, seed=1) * 40 + 128).clamp(0, 255)
    return unary, image


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("size", [(7, 9), (3, 5, 4)])
def test_dense_crf_equals_the_matrices(size, normalization, device):
    unary, image = crf_case(device, size)
    w = 0.2 if normalization == "none" else 4.0
    params = CRFParams(w, 5, 30, w / 2, 2)
    kernels = image_kernels(image, params, normalization)
    expected = dense_mean_field(unary.flatten(2), kernels, 5).view(unary.shape)
    how = {"iterations": 5, "normalization": normalization, "algorithm": "exact"}
    actual = dense_crf(unary, image, params, **how)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
    single = dense_crf(unary.float(), image, params, **how)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=3e-5)


def test_crf_gradients_equal_those_of_the_matrices(device):
    """Of the unary and the weights, through ten checkpointed iterations."""
    unary, image = crf_case(device)
    up = rand(*unary.shape, device=device, seed=5)
    gradients = []
    for exact in (True, False):
        leaves = [unary.clone(), *(torch.tensor(w, dtype=torch.float64) for w in (4.0, 2.0))]
        u, w1, w2 = (leaf.requires_grad_() for leaf in leaves)
        params = CRFParams(w1, 5, 30, w2, 2)
        if exact:
            q = dense_crf(u, image, params, algorithm="exact")
        else:
            kernels = image_kernels(image, params, "symmetric")
            q = dense_mean_field(u.flatten(2), kernels, 10).view(u.shape)
        gradients.append(torch.autograd.grad((q * up).sum(), (u, w1, w2)))
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


def test_gradcheck_of_image_and_sigmas(device):
    """What features are made of: the image, and the standard deviations as tensors."""
    unary, image = crf_case(device, (3, 3), 1)
    sigmas = [torch.tensor(s, dtype=torch.float64, device=device) for s in (2.0, 3.0, 30.0)]

    def crf(image, gamma, alpha, beta):
        params = CRFParams(4.0, alpha, beta, 2.0, gamma)
        return dense_crf(unary, image, params, iterations=2, spacing=0.5, algorithm="exact")

    leaves = [t.requires_grad_() for t in (image, *sigmas)]
    assert torch.autograd.gradcheck(crf, leaves, fast_mode=on_cuda(unary))


def test_memory_of_a_gradient_is_one_q_for_each_iteration():
    """What autograd keeps between the passes."""
    unary, image = crf_case("cpu", (12, 12), 1)
    unary.requires_grad_()
    kept = []
    for iterations in (4, 12):
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            q = dense_crf(
                unary, image, CRFParams(4, 5, 30, 2, 2), iterations=iterations, algorithm="exact"
            )
        kept.append(sum(sizes.values()))
        del q
    assert kept[1] - kept[0] <= 8 * unary.nbytes


def test_same_bits_and_half(device):
    unary, image = (t.float() for t in crf_case(device, (20, 24)))
    params = CRFParams(4, 8, 20, 3, 2)
    first, second = (dense_crf(unary, image, params, algorithm="exact") for _ in range(2))
    assert torch.equal(first, second)
    half = dense_crf(unary, image, params, algorithm="exact", precision="half")
    torch.testing.assert_close(half, first, rtol=0, atol=1e-3)
    assert on_cuda(unary) or torch.equal(half, first)


def test_amp_leaves_it_in_float32(device):
    unary, image = (t.float() for t in crf_case(device))
    params, matrix = CRFParams(4, 5, 30, 2, 2), rand(3, 3, device=device, dtype=torch.float32)
    features = image.flatten(2).mT / 30
    expected = dense_crf(unary, image, params, algorithm="exact")
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(dense_crf(unary, image, params, algorithm="exact"), expected)
        q = mean_field(unary.flatten(2), [(features, matrix)], algorithm="exact")
    assert torch.equal(q, mean_field(unary.flatten(2), [(features, matrix)], algorithm="exact"))


def test_compiled_and_in_torch_func(device):
    unary, image = (t.float() for t in crf_case(device, (20, 20)))
    params = CRFParams(4, 5, 30, 2, 2)

    def crf(unary, image):
        return dense_crf(unary, image, params, iterations=2, algorithm="exact")

    expected = crf(unary, image)
    compiled = torch.compile(crf, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(unary, image), expected, rtol=0, atol=1e-6)
    mapped = torch.vmap(lambda u, i: crf(u[None], i[None])[0])(unary, image)
    torch.testing.assert_close(mapped, expected, rtol=0, atol=1e-6)

    def loss(unary):
        return crf(unary, image).square().sum()

    leaf = unary.clone().requires_grad_()
    loss(leaf).backward()
    torch.testing.assert_close(torch.func.grad(loss)(unary), leaf.grad, rtol=0, atol=1e-6)


def test_lattice_is_near_it():
    """Where points lie dense the lattice's error is a few per cent of one message."""
    unary, image = crf_case("cpu", (24, 24), 1)
    smooth = torch.nn.functional.avg_pool2d(image, 5, 1, 2)
    params = CRFParams(4, 10, 30, 2, 3)
    exact, lattice = (dense_crf(unary, smooth, params, algorithm=a) for a in ("exact", "lattice"))
    assert 0 < (exact - lattice).abs().mean() < 0.05


def test_every_mode_is_a_mode_of_both():
    """Normalisations and compatibilities agree with the lattice's where both are exact: alone."""
    unary = rand(3, 1) * 2
    for normalization, shape in itertools.product(NORMALIZATIONS, [(), (3,), (3, 3)]):
        kernel = torch.zeros(1, 2), rand(*shape, seed=7), normalization
        exact = mean_field(unary, [kernel], iterations=3, algorithm="exact")
        assert exact.shape == (3, 1)
        expected = dense_mean_field(unary[None], [(kernel[0].double(), *kernel[1:])], 3)[0]
        torch.testing.assert_close(exact, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_depend_on_no_number_of_threads(dtype, set_threads):
    unary = rand(2, 4, 19, 22, dtype=dtype).requires_grad_()
    image = (rand(2, 3, 19, 22, seed=1) * 40 + 120).clamp(0, 255).to(torch.uint8)
    found = []
    for threads in (1, 2, 3, 8):
        set_threads(threads)
        q = dense_crf(unary, image, CRFParams(4, 20, 13, 3, 3), iterations=3, algorithm="exact")
        found.append((q, *torch.autograd.grad(q.square().sum(), unary)))
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(other, found[0], strict=True)
    )


def test_no_image_has_gradients_of_zero():
    unary, matrix = torch.empty(0, 3, 5), torch.eye(3, requires_grad=True)
    q = mean_field(unary, [(torch.rand(5, 2), matrix)], iterations=2, algorithm="exact")
    assert torch.equal(torch.autograd.grad(q.sum(), matrix)[0], torch.zeros(3, 3))
