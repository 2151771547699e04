"""Random walks against powers of the lattice's matrix."""

import pytest
import torch

from deeplab_native import random_walk
from deeplab_native.ops.random_walk import _random_walk
from python_tests.ops.lattice_matrix import HEIGHT, SIGMAS, WIDTH, lattice_matrices, picture

close = torch.testing.assert_close
ARGS = [6.0, 6.0, 40.0, 40.0, 40.0], 3


def transitions(image):
    """D^-1 K (B, N, N)."""
    matrices = lattice_matrices(image, **SIGMAS)
    return matrices / matrices.sum(2, keepdim=True)


@pytest.mark.parametrize("steps", [0, 1, 3, 16])
def test_equals_powers_of_the_matrix(steps, device):
    image, scores = picture(device)
    scores = (scores * 10 - 3).requires_grad_()
    walked = random_walk(scores, image, steps=steps, **SIGMAS)
    power = torch.linalg.matrix_power(transitions(image), steps)
    own = scores.detach().cpu().requires_grad_()
    expected = (own.flatten(2) @ power.mT).view(own.shape)
    close(walked.cpu(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(expected)
    (found,) = torch.autograd.grad(walked, scores, weights.to(device))
    (wanted,) = torch.autograd.grad(expected, own, weights)
    close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)


def test_every_step_is_a_mean(device):
    image, s = picture(device)
    walked = random_walk(s, image, steps=4, **SIGMAS)
    close(walked.sum(1), torch.ones_like(walked[:, 0]), rtol=1e-6, atol=0)
    assert walked.min() >= s.min() and walked.max() <= s.max()
    same = torch.full_like(s, -7.5)
    close(random_walk(same, image, steps=4, **SIGMAS), same, rtol=1e-6, atol=0)


def test_a_seed_spreads_over_its_region(device):
    image, s = picture(device)
    seed = torch.zeros_like(s[:, :1])
    seed[:, :, 2, 1] = 1
    walked = random_walk(seed, image, steps=8, sigma_xy=3.0, sigma_rgb=30.0)[:, 0]
    inside, outside = walked[:, :, : WIDTH // 2], walked[:, :, WIDTH // 2 :]
    assert (inside > 0.3 / (HEIGHT * WIDTH)).all() and outside.max() < inside.min() / 100


def test_single_images_batches_and_steps(device):
    image, scores = picture(device)
    twice = random_walk(scores, image, steps=2, **SIGMAS)
    close(random_walk(scores[1], image[1], steps=2, **SIGMAS), twice[1], rtol=0, atol=0)
    close(random_walk(scores[1:], image[1:], steps=2, **SIGMAS), twice[1:], rtol=0, atol=0)
    close(random_walk(scores, image, steps=2, **SIGMAS), twice, rtol=0, atol=0)
    once = random_walk(random_walk(scores, image, **SIGMAS), image, **SIGMAS)
    close(once, twice, rtol=1e-12, atol=1e-12)
    unit = random_walk(scores, image.double() / 255, steps=2, image_range=(0, 1), **SIGMAS)
    close(unit, twice, rtol=1e-4, atol=1e-4)
    scan = random_walk(scores.unflatten(2, (2, 3)), image.unflatten(2, (2, 3)), **SIGMAS)
    assert scan.shape == (*scores.shape[:2], 2, 3, WIDTH)
    half = random_walk(scores.half(), image, steps=2, **SIGMAS)
    assert half.dtype == torch.float32
    close(half.double(), twice, rtol=0, atol=2e-3)
    assert random_walk(scores[:0], image[:0], steps=2, **SIGMAS).shape == (0, *scores.shape[1:])


def test_gradcheck(device):
    image, scores = picture(device, batch=1)
    fn = lambda s: random_walk(s, image, steps=3, **SIGMAS)  # noqa: E731
    assert torch.autograd.gradcheck(fn, scores.requires_grad_(), fast_mode=True)
    assert torch.autograd.gradgradcheck(fn, scores, fast_mode=True)


def test_opcheck(device):
    image, scores = picture(device)
    torch.library.opcheck(_random_walk, (scores.requires_grad_(), image, *ARGS, False))


def test_compile(device):
    image, scores = picture(device)
    fn = lambda s: random_walk(s, image, steps=3, **SIGMAS)  # noqa: E731
    compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
    close(compiled(scores.requires_grad_()), fn(scores), rtol=0, atol=0)


IMAGE, MAP = torch.zeros(2, 3, 6, 8, dtype=torch.uint8), torch.zeros(2, 4, 6, 8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scores": None}, TypeError, "scores: expected a torch.Tensor, got NoneType"),
        ({"scores": MAP.int()}, TypeError, "scores: expected dtype torch.float32"),
        ({"scores": MAP[0, 0]}, ValueError, "scores: expected 4 or 5 dimensions"),
        ({"scores": MAP[0]}, ValueError, r"image: expected shape \(1, C, 6, 8\) for scores"),
        ({"image": IMAGE[:, :, 1:]}, ValueError, r"image: expected shape \(2, C, 6, 8\)"),
        ({"image": IMAGE.float().requires_grad_()}, ValueError, "image: no gradient"),
        ({"image": IMAGE.int()}, TypeError, "image: expected dtype torch.uint8"),
        ({"steps": -1}, ValueError, "steps: expected at least 0, got -1"),
        ({"steps": 1.5}, TypeError, "steps: expected an integer, got 1.5"),
        ({"sigma_xy": -3}, ValueError, "sigma_xy: expected a positive number, got -3"),
        ({"sigma_rgb": True}, TypeError, "sigma_rgb: expected a number, got bool"),
        ({"sigma_xy": 1e-9}, ValueError, "image / .*: .* too large for the lattice"),
    ],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        random_walk(**{"scores": MAP, "image": IMAGE} | SIGMAS | change)
