"""The CRF as a layer against `dense_crf`, its gradients against finite differences."""

import copy
import io
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import nll_loss
from torch.utils.checkpoint import checkpoint

from deeplab_native import CRFParams, dense_crf
from deeplab_native.layers import DenseCRF
from python_tests.layers.crf_cases import ALL, LABELS, PARAMS, SETTINGS, inputs, layer


def gradients(crf, scores, image, labels):
    scores = scores.detach().requires_grad_()
    crf.zero_grad()
    nll_loss(crf(scores, image), labels, ignore_index=255).backward()
    return {"scores": scores.grad, **{n: p.grad.clone() for n, p in crf.named_parameters()}}


@pytest.mark.parametrize("setting", SETTINGS)
def test_it_gives_the_logarithms_of_dense_crf(setting, device):
    scores, image, _ = inputs(device)
    crf = layer(setting, device).eval()
    expected = dense_crf(-scores, image, crf.params)
    log_q = crf(scores, image)
    assert log_q.dtype == torch.float32
    torch.testing.assert_close(log_q.exp(), expected, atol=2e-6, rtol=0)
    # from equal numbers, the Potts model, whatever it is written as
    torch.testing.assert_close(expected, dense_crf(-scores, image, PARAMS), atol=1e-5, rtol=0)


def test_iterations_of_training_and_of_evaluation():
    scores, image, _ = inputs()
    crf = layer("potts", iterations=2, eval_iterations=4)
    for training, iterations in ((True, 2), (False, 4)):
        crf.train(training)
        q = dense_crf(-scores, image, crf.params, iterations=iterations)
        torch.testing.assert_close(crf(scores, image).exp(), q, atol=1e-6, rtol=0)
    assert (DenseCRF(PARAMS).iterations, DenseCRF(PARAMS).eval_iterations) == (5, 10)


@pytest.mark.parametrize("setting", SETTINGS)
def test_gradients_are_finite_differences(setting, device):
    scores, image, labels = inputs(device, torch.float64)
    crf = layer(setting, device, dtype=torch.float64, trainable=ALL[setting])
    found = gradients(crf, scores, image, labels)
    assert set(found) == {
        "scores",
        *(n if n == "compatibility" else f"log_{n}" for n in ALL[setting]),
    }

    def loss():
        with torch.no_grad():
            return float(nll_loss(crf(scores, image), labels, ignore_index=255))

    for name, parameter in crf.named_parameters():
        # Features are float32, and rounded, relative to the step, by 1e-3. On this grid points lie
        # on faces of the lattice's simplices for any sigma_gamma: there a gradient is one side's.
        step = 1e-4 if "sigma" in name else 1e-6
        relative = {"log_sigma_gamma": 0.05}.get(name, 1e-2 if "sigma" in name else 1e-6)
        direction = (
            torch.ones_like(parameter) if parameter.ndim < 2 else torch.randn_like(parameter)
        )
        ends = []
        for sign in (1, -1):
            parameter.data += sign * step * direction
            ends.append(loss())
            parameter.data -= sign * step * direction
        along = float((found[name] * direction).sum())
        assert abs(along) > 0.05
        assert along == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=relative), name


def test_an_optimizer_lowers_the_loss():
    scores, image, labels = inputs()
    crf = layer("potts", trainable=ALL["potts"])
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        loss = nll_loss(crf(scores, image), labels, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.01
    assert all(v > 0 for v in crf.params.__dict__.values())


@pytest.mark.parametrize("setting", SETTINGS)
def test_state_dict(setting):
    scores, image, _ = inputs()
    crf = layer(setting, trainable=("w1", "sigma_beta"))
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.add_(0.1)
    file = io.BytesIO()
    torch.save(crf.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert {f"log_{n}" for n in ALL["potts"]} <= set(state)
    # into one that started elsewhere and trains something else
    other = DenseCRF(
        CRFParams(1, 30, 9, 2, (2, 4)[0]),
        trainable=("w2", "sigma_alpha"),
        compatibility=setting,
        num_labels=LABELS,
    )
    other.load_state_dict(state)
    torch.testing.assert_close(other(scores, image), crf(scores, image), atol=2e-5, rtol=0)
    assert other.params.sigma_gamma == PARAMS.sigma_gamma
    for clone in (copy.deepcopy(crf), pickle.loads(pickle.dumps(crf))):
        assert torch.equal(clone(scores, image), crf(scores, image))
        assert [n for n, _ in clone.named_parameters()] == [n for n, _ in crf.named_parameters()]


def test_fixed_sigmas_of_each_axis_and_channel():
    scores, image, _ = inputs()
    params = CRFParams(4, (9, 5), (20, 25, 30), 3, (2, 4))
    crf = DenseCRF(params)
    q = dense_crf(-scores, image, params, iterations=5)
    torch.testing.assert_close(crf(scores, image).exp(), q, atol=1e-5, rtol=0)
    other = DenseCRF(CRFParams(1, (1, 1), (1, 1, 1), 1, (1, 1)))
    other.load_state_dict(crf.state_dict())
    assert other.params.sigma_beta == (20, 25, 30)
    assert "sigma_beta=(20, 25, 30)" in repr(other)


def test_settings_are_passed_on():
    scores, image, _ = inputs()
    settings = {"spacing": (2.0, 1.0), "image_range": (0, 1), "normalization": "after"}
    crf = layer("potts", scale=0.5, **settings)
    q = dense_crf(-scores, image / 255, PARAMS, iterations=5, scale=0.5, **settings)
    torch.testing.assert_close(crf(scores, image / 255).exp(), q, atol=1e-5, rtol=0)


@pytest.mark.parametrize("closer", [{"algorithm": "exact"}, {"lattice": "bridged"}])
def test_closer_to_the_exact_sums(closer):
    scores, image, labels = inputs()
    crf = layer("potts", trainable=ALL["potts"], **closer)
    q = dense_crf(-scores, image, PARAMS, iterations=5, **closer)
    torch.testing.assert_close(crf(scores, image).exp(), q, atol=1e-5, rtol=0)
    assert not torch.allclose(q, dense_crf(-scores, image, PARAMS, iterations=5), atol=1e-3)
    found = gradients(crf, scores, image, labels)
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_one_image_a_list_and_sizes():
    scores, image, _ = inputs()
    crf = layer("potts")
    both = crf(scores, image)
    torch.testing.assert_close(crf(scores[0], image[0]), both[0])
    listed = crf([scores[0], scores[1, :, :5]], [image[0], image[1, :, :5]])
    torch.testing.assert_close(listed[0], both[0])
    padded = crf(scores, image, sizes=[scores.shape[2:], (5, scores.shape[3])])
    torch.testing.assert_close(padded[1, :, :5], listed[1])
    assert padded[1, :, 5:].allclose(torch.tensor(math.log(1e-30)))


def test_labels_that_cannot_be_keep_losses_and_gradients_finite():
    scores, image, labels = inputs()
    scores[:, 1, :4] = -math.inf
    scores[:, 2, 4:] = 200  # nothing is left for the others
    scores[:, :, 0, 0] += 1e4  # what all have in common says nothing
    found = gradients(layer("potts", trainable=ALL["potts"]), scores, image, labels)
    assert all(g.isfinite().all() for g in found.values())
    assert (found["scores"][:, 1, :4] == 0).all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_compile(setting, device):
    torch._dynamo.reset()  # each compiles the same code again
    scores, image, labels = inputs(device)
    crf = layer(setting, device, trainable=ALL[setting])
    eager = gradients(crf, scores, image, labels)
    compiled = torch.compile(crf, fullgraph=True, backend="aot_eager")
    log_q = compiled(scores, image)
    torch.testing.assert_close(log_q, crf(scores, image))
    nll_loss(log_q, labels, ignore_index=255)
    for name, gradient in gradients(compiled, scores, image, labels).items():
        torch.testing.assert_close(gradient, eager[name.removeprefix("_orig_mod.")])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_it_in_float32(dtype):
    scores, image, labels = inputs()
    conv = nn.Conv2d(LABELS, LABELS, 1)
    crf = layer("potts", trainable=ALL["potts"])
    with torch.autocast("cpu", dtype=dtype):
        low = conv(scores)
        log_q = crf(low, image)
        loss = nll_loss(log_q, labels, ignore_index=255)
    assert low.dtype == dtype
    assert log_q.dtype == torch.float32
    assert torch.equal(log_q, crf(low.float(), image))
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in crf.parameters())
    assert conv.weight.grad.isfinite().all()


def test_parameters_of_16_bits_compute_in_32():
    scores, image, _ = inputs()
    crf = layer("potts", trainable=ALL["potts"]).to(torch.bfloat16)
    log_q = crf(scores.bfloat16(), image)
    assert log_q.dtype == torch.float32
    q = dense_crf(-scores.bfloat16(), image, crf.params, iterations=5)
    torch.testing.assert_close(log_q.exp(), q, atol=2e-6, rtol=0)


def test_activation_checkpointing():
    scores, image, labels = inputs()
    crf = layer("potts", trainable=ALL["potts"])
    expected = gradients(crf, scores, image, labels)

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.crf = crf

        def forward(self, scores, image):
            return checkpoint(self.crf, scores, image, use_reentrant=False)

    for name, gradient in gradients(Checkpointed(), scores, image, labels).items():
        assert torch.equal(gradient, expected[name.removeprefix("crf.")])


def test_the_example_of_the_documentation_runs():
    text = (Path(__file__).parents[2] / "docs/learning_the_crf.md").read_text()
    found = {}
    exec(text.split("```python\n")[1].split("```")[0], found)
    assert found["loss"].isfinite()
    assert found["crf"].params.w1 != 4
    assert found["labels"].shape == (2, 65, 81)
