"""dense_crf on images: pydensecrf's results, batches, dtypes and threads."""

import copy
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C, _variants
from deeplab_native.ops.dense_crf import _dense_crf_backward
from deeplab_native.ops.pairwise_features import image_features, position_features

NORMALIZATIONS = {
    "NO_NORMALIZATION": "none",
    "NORMALIZE_BEFORE": "before",
    "NORMALIZE_AFTER": "after",
    "NORMALIZE_SYMMETRIC": "symmetric",
}
# Eleven drawn images are part of the tests; photographs may be put beside them.
FOLDERS = [Path(__file__).parents[1] / "pydensecrf" / "recorded"]
if "DEEPLAB_NATIVE_CRF_REFERENCE" in os.environ:
    FOLDERS.append(Path(os.environ["DEEPLAB_NATIVE_CRF_REFERENCE"]))
CASES = [
    pytest.param(folder, case, id=Path(case["file"]).stem)
    for folder in FOLDERS
    for case in json.loads((folder / "index.json").read_text())
]


def kernels_of(case, image, device):
    """The pairwise kernels of a reference case; sigmas may be given per axis."""
    height, width = image.shape[:2]
    kernels = []
    for k in case["gaussian"] + case["bilateral"]:
        sigma = k["sxy"][::-1] if isinstance(k["sxy"], list) else k["sxy"]
        features = position_features(height, width, sigma, device=device)
        if "srgb" in k:
            batch = torch.from_numpy(image).permute(2, 0, 1)[None].to(device)
            features = image_features(batch, sigma, k["srgb"])[0]
        kernels.append((features, k["compat"], NORMALIZATIONS[k["norm"]]))
    return kernels


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("folder", "case"), CASES)
def test_same_results_as_pydensecrf(folder, case, threads, set_threads):
    set_threads(threads)
    check_case(folder, case, torch.device("cpu"))


def check_case(folder, case, device):
    with np.load(folder / case["file"]) as data:
        image, unary, expected = data["image"], data["unary"], data["q"]
        kl = data["kl"]
    crf = dn.MeanField(torch.from_numpy(unary)[None].to(device), kernels_of(case, image, device))
    q = crf.inference(case["iterations"])[0].cpu().numpy()
    error = np.abs(q - expected)
    assert error.mean() <= 1e-6
    assert error.max() <= 5e-5  # an independent build of the same lattice
    assert (q.argmax(0) == expected.argmax(0)).mean() >= 0.9999
    stepped = crf.start()
    for expected_kl in kl:
        stepped = crf.step(stepped)
        assert crf.kl_divergence(stepped).item() == pytest.approx(expected_kl, rel=1e-4)


def test_same_results_as_pydensecrf_on_odd_sizes(device):
    """43 x 37 pixels, dark: the vertices that pydensecrf's last vector adds move Q by 0.04."""
    with np.load(Path(__file__).parents[1] / "pydensecrf" / "recorded_43x37.npz") as data:
        image, unary, expected = (
            torch.from_numpy(data[k]).to(device) for k in ("image", "unary", "q")
        )
    image = image.permute(2, 0, 1)[None]
    q = dn.dense_crf(unary.view(1, 4, 43, 37), image, dn.CRFParams(6, 40, 5, 3, 3))
    error = (q[0].flatten(1) - expected).abs()
    assert error.mean() <= 1e-6 and error.max() <= 5e-5


def test_equals_its_kernels(photo_on):
    unary, image, params = photo_on
    with _variants.use({"crf_tile": "off"}):  # sums in the order in which kernels give the points
        q = dn.dense_crf(unary, image, params, iterations=5, normalization="after")
    kernels = [
        (
            position_features(30, 41, params.sigma_gamma, device=image.device),
            params.w2,
            "after",
        ),
        (image_features(image, params.sigma_alpha, params.sigma_beta), params.w1, "after"),
    ]
    expected = dn.mean_field(unary.flatten(2), kernels, iterations=5)
    torch.testing.assert_close(q.flatten(2), expected, rtol=0, atol=0)
    q = dn.dense_crf(unary, image, params, iterations=5, normalization="after")
    steps = dn.MeanField.from_image(unary, image, params, normalization="after")
    torch.testing.assert_close(steps.inference(5), q, rtol=0, atol=0)
    assert steps.start().shape == unary.shape
    torch.testing.assert_close(q.sum(1), torch.ones_like(q[:, 0]), rtol=1e-5, atol=1e-5)


def test_batch_equals_single_images(photo_on):
    unary, image, params = photo_on
    q = dn.dense_crf(unary, image, params)
    for b in range(2):
        one = dn.dense_crf(unary[b : b + 1], image[b : b + 1], params)
        assert torch.equal(one[0], q[b])
    assert dn.dense_crf(unary[:0], image[:0], params).shape == (0, 4, 30, 41)


def test_dtypes_and_strides(photo_on):
    unary, image, params = photo_on
    q = dn.dense_crf(unary, image, params)
    for other in (
        image.float(),
        image.double(),
        image.contiguous(memory_format=torch.channels_last),
    ):
        assert torch.equal(dn.dense_crf(unary, other, params), q)
    channels_last = unary.contiguous(memory_format=torch.channels_last)
    assert torch.equal(dn.dense_crf(channels_last, image, params), q)
    flipped = dn.dense_crf(unary.flip(-1).flip(-1), image, params)
    assert torch.equal(flipped, q)
    double = dn.dense_crf(unary.double(), image, params)
    torch.testing.assert_close(double.float(), q, rtol=0, atol=5e-5)


def test_same_bits_every_time_and_labels_with_any_threads(photo, set_threads):
    unary, image, params = photo
    results = []
    for threads in (1, 2, 5, 16):
        set_threads(threads)
        results.append(dn.dense_crf(unary, image, params))
        assert torch.equal(dn.dense_crf(unary, image, params), results[-1])
    for q in results[1:]:
        torch.testing.assert_close(q, results[0], rtol=0, atol=1e-5)


def test_labels_become_smoother(photo_on):
    unary, image, params = photo_on
    regions = dn.dense_crf(unary, image, params).argmax(1)
    noisy = unary.argmin(1)

    def borders(labels):
        return (labels[:, 1:] != labels[:, :-1]).sum() + (labels[..., 1:] != labels[..., :-1]).sum()

    assert borders(regions) < borders(noisy) / 4


@pytest.mark.parametrize("isa", _C.available_isas())
def test_every_instruction_set(photo, isa):
    unary, image, params = photo
    expected = dn.dense_crf(unary, image, params)
    try:
        _C.set_isa(isa)
        q = dn.dense_crf(unary, image, params)
    finally:
        _C.set_isa(_C.available_isas()[-1])
    torch.testing.assert_close(q, expected, rtol=0, atol=1e-5)


def test_gradcheck_opcheck_and_compile(photo_on):
    unary, image, _ = photo_on
    unary = unary[:, :3, :3, :4].double().requires_grad_()
    image = image[:, :, :3, :4]
    w1, w2 = (unary.new_tensor(w, requires_grad=True) for w in (4.0, 3.0))

    def crf(unary, w1, w2):
        return dn.dense_crf(unary, image, dn.CRFParams(w1, 8, 30, w2, 2), iterations=3)

    assert torch.autograd.gradcheck(crf, (unary, w1, w2))
    arguments = (
        unary,
        image,
        [w2, w1],
        [2.0] * 2 + [8.0] * 2 + [30.0] * 3,
        3,
        3,
        1.0,
        False,
        False,
    )
    torch.library.opcheck(torch.ops.deeplab_native.dense_crf.default, arguments)
    detached = (
        unary.detach(),
        image,
        [w2.detach(), w1.detach()],
        *arguments[3:6],
        True,
        1.0,
        False,
    )
    torch.library.opcheck(_dense_crf_backward, (unary.detach(), *detached))
    compiled = torch.compile(crf, fullgraph=True, backend="aot_eager")
    actual = torch.autograd.grad(compiled(unary, w1, w2).square().sum(), (unary, w1, w2))
    expected = torch.autograd.grad(crf(unary, w1, w2).square().sum(), (unary, w1, w2))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_learning_the_weights(photo_on):
    """Gradient descent on w1 and w2 improves the likelihood of the true regions."""
    unary, image, params = photo_on
    target = unary.argmin(1)
    weights = unary.new_tensor([0.1, 0.1], requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.3)
    losses = []
    for _ in range(3):
        p = dn.CRFParams(weights[0], params.sigma_alpha, params.sigma_beta, weights[1], 3)
        loss = torch.nn.functional.nll_loss(dn.dense_crf(unary, image, p).log(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64, "meta"])
def test_defaults_of_torch_do_not_matter(photo, default):
    unary, image, params = photo
    expected = dn.dense_crf(unary, image, params)
    try:
        if default == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(default)
        q = dn.dense_crf(unary, image, params)
        stepped = dn.MeanField.from_image(unary, image, params).inference(10)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(q, expected) and torch.equal(stepped, expected)


def test_autocast(photo):
    unary, image, params = photo
    low = unary.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        q = dn.dense_crf(low, image, params)
    assert torch.equal(q, dn.dense_crf(low.float(), image, params))


def test_second_derivatives_are_refused(photo):
    unary, image, params = photo
    unary = unary[..., :4, :5].clone().requires_grad_()
    q = dn.dense_crf(unary, image[..., :4, :5], params, iterations=1)
    (grad,) = torch.autograd.grad(q.square().sum(), unary, create_graph=True)
    with pytest.raises(RuntimeError, match="dense_crf: no second derivatives"):
        torch.autograd.grad(grad.sum(), unary)


def test_python_threads_share_an_object(photo_on):
    unary, image, params = photo_on
    crf = dn.MeanField.from_image(unary, image, params)
    expected = crf.inference(10)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: crf.inference(10), range(12)))
    assert all(torch.equal(q, expected) for q in results)


def test_no_copies_of_native_memory(photo_on):
    crf = dn.MeanField.from_image(*photo_on)
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"MeanField: .* cannot be copied or pickled"):
            copying(crf)
