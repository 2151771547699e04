"""The CUDA kernels of the exact Gaussian sum at the edges of their launches, emulated."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch

SIZES = [  # images, points, d, channels: tiles of 64 points, blocks of 128, chunks of 8 or 24
    (1, 1, 1, 1),
    (2, 63, 2, 2),
    (1, 64, 4, 8),
    (2, 65, 5, 21),
    (1, 129, 9, 24),
    (1, 128, 10, 25),
    (1, 193, 3, 64),
    (2, 70, 17, 9),
    (1, 66, 64, 1),
    (1, 1300, 2, 1),  # groups of 8 tiles: three parts
]
DTYPES = {torch.float32: "float32", torch.float64: "float64"}


def call(
    emulator: ModuleType,
    features: torch.Tensor,
    *rows: torch.Tensor,
    far: float = math.inf,
    half: bool = False,
) -> torch.Tensor:
    """The sum of values, or the features' gradient of values and grad; memory begins as NaN."""
    size = (*features.shape, rows[0].shape[2])
    dtype = DTYPES[features.dtype]
    scratch = torch.full(
        (emulator.gauss_transform_scratch_bytes_cuda(*size, dtype) // 4,), math.nan
    )
    name = "gauss_transform_cuda" if len(rows) == 1 else "gauss_transform_features_cuda"
    out = torch.full_like(rows[0] if len(rows) == 1 else features, math.nan)
    pointers = [t.data_ptr() for t in (features, *rows, out)]
    getattr(emulator, name)(*pointers, *size, far, dtype, half, scratch.data_ptr(), 0)
    return out


def expected(features: torch.Tensor, *rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In float64, and the same sum of absolute terms."""
    features, *rows = (t.double() for t in (features, *rows))
    apart = features[:, None] - features[:, :, None]  # f_j - f_i
    kernel = torch.exp(-0.5 * apart.square().sum(3))
    if len(rows) == 1:
        return kernel @ rows[0], kernel @ rows[0].abs()
    values, grad = rows
    weights = kernel * (grad @ values.mT + values @ grad.mT)
    terms = weights[..., None] * apart
    return terms.sum(2), terms.abs().sum(2)


def sample(size: tuple[int, int, int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    """Features whose neighbours are near, values and a gradient."""
    images, points, d, channels = size
    generator = torch.Generator().manual_seed(points)
    new = [torch.randn(images, points, n, generator=generator) for n in (d, channels, channels)]
    new[0] = new[0] / math.sqrt(d) + 0.05 * torch.arange(points)[:, None]
    return [t.to(dtype) for t in new]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_and_gradients(
    emulator: ModuleType, size: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    features, values, grad = sample(size, dtype)
    bound = 3e-6 if dtype == torch.float32 else 3e-14
    for rows in ([values], [values, grad]):
        exact, scale = expected(features, *rows)
        for far in (math.inf, 36.0):  # exp(-18) = 1.5e-8
            out = call(emulator, features, *rows, far=far)
            left_out = 0.0 if far == math.inf else 1e-6
            error = (out - exact).abs() - bound * (scale + 1)
            assert bool((error <= left_out).all())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_half(emulator: ModuleType, size: tuple[int, int, int, int]) -> None:
    features, values, _ = sample(size, torch.float32)
    exact, scale = expected(features, values)
    for far in (math.inf, 36.0):
        out = call(emulator, features, values, far=far, half=True)
        assert bool(((out - exact).abs() <= 1.5e-3 * scale + 1e-5).all())
    if size[2] <= 10:  # and it was another kernel
        assert not torch.equal(out, call(emulator, features, values, far=36.0))


def test_half_of_points_far_from_the_origin_and_from_each_other(emulator: ModuleType) -> None:
    # one block of the tensor cores' kernel, one of points too wide for it, and one of both
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 400, 3, generator=generator)
    features[0, 128:300] += 90 * torch.randint(-4, 5, (172, 1), generator=generator)
    features += 1500
    values = torch.randn(1, 400, 5, generator=generator)
    exact, scale = expected(features, values)
    for far in (math.inf, 36.0):
        out = call(emulator, features, values, far=far, half=True)
        assert bool(((out - exact).abs() <= 1.5e-3 * scale + 1e-5).all())
    plain = call(emulator, features, values, far=36.0)
    assert torch.equal(out[0, 128:256], plain[0, 128:256])
    assert not torch.equal(out[0, :128], plain[0, :128])


@pytest.mark.parametrize("half", [False, True])
def test_far_tiles_are_skipped(emulator: ModuleType, half: bool) -> None:
    features = torch.zeros(1, 256, 2)
    features[0, 64:128, 0] = 5  # squares of 25: looked at, or not
    features[0, 128:192, 1] = 8
    values = torch.ones(1, 256, 1)
    near, far = (call(emulator, features, values, far=far, half=half) for far in (30.0, 20.0))
    assert near[0, 0].item() == pytest.approx(128 + 64 * math.exp(-12.5), abs=2e-4)
    if half:  # a block has two tiles, and looks at what is near one of them
        assert torch.equal(near[0, :128], far[0, :128])
    else:
        assert far[0, 0].item() == pytest.approx(128, abs=1e-5) and far[0, 0] < near[0, 0]
    assert far[0, 192].item() == pytest.approx(128, abs=1e-5) and far[0, 192] < near[0, 192]


@pytest.mark.parametrize("half", [False, True])
def test_an_image_is_the_same_in_any_batch_and_each_time(emulator: ModuleType, half: bool) -> None:
    features, values, grad = sample((3, 150, 5, 11), torch.float32)
    for rows in ([values], [values, grad]):
        all_images = call(emulator, features, *rows, far=36.0, half=half)
        assert torch.equal(all_images, call(emulator, features, *rows, far=36.0, half=half))
        for b in range(3):
            own = [t[b : b + 1].contiguous() for t in (features, *rows)]
            assert torch.equal(all_images[b : b + 1], call(emulator, *own, far=36.0, half=half))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("what", [math.nan, math.inf, 1e30])
def test_features_that_are_no_use_do_no_harm(emulator: ModuleType, what: float, half: bool) -> None:
    features, values, grad = sample((2, 140, 5, 3), torch.float32)
    before = call(emulator, features, values, half=half)
    features[0, 70, 2] = what
    for rows in ([values], [values, grad]):
        call(emulator, features, *rows, far=36.0, half=half)
    out = call(emulator, features, values, half=half)
    assert torch.equal(out[1], before[1])  # of the other image
    if what == 1e30:
        assert torch.isfinite(out).all()
        assert torch.allclose(out[0, 70], values[0, 70], rtol=1e-3)


def test_values_as_large_as_is_said(emulator: ModuleType) -> None:
    features = torch.zeros(1, 300, 2)
    values = torch.full((1, 300, 1), 1024.0)
    values[0, ::2] = -1024
    values[0, 0] = 2.0**-20  # a float16 of its own has 4 bits for it
    out = call(emulator, features, values, half=True)
    assert out[0, 0].item() == pytest.approx(1024, rel=1e-3)
    alone = call(emulator, features[:, :1].contiguous(), values[:, :1].contiguous(), half=True)
    assert alone.item() == pytest.approx(2.0**-20, rel=1e-3)


def test_nothing_to_do_is_done(emulator: ModuleType) -> None:
    for size in ((0, 5, 2, 3), (2, 0, 2, 3)):
        features, values, grad = sample(size, torch.float32)
        assert call(emulator, features, values, half=True).shape == values.shape
        assert call(emulator, features, values, grad).shape == features.shape


def test_what_is_too_much_is_an_error(emulator: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="CUDA"):
        emulator.gauss_transform_cuda(
            0, 0, 0, 1 << 20, 1 << 20, 2, 3, math.inf, "float32", False, 0, 0
        )
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got float16"):
        emulator.gauss_transform_scratch_bytes_cuda(1, 2, 2, 3, "float16")
