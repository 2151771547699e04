"""Lattices of positions on the CPU, which are kept for the next image of that size."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C

MOST = 8  # kept_lattices.cpp


def positions(height=20, width=32, sigma=3.0, threads=1, depth=None):
    axes = 2 if depth is None else 3
    size = (height, width) if depth is None else (depth, height, width)
    return _C.build_image_lattice_cpu(
        0, "uint8", [0] * (axes + 1), size, [sigma] * axes, [], threads
    )


@pytest.fixture(autouse=True)
def nothing_kept():
    _C.release_memory()
    yield
    _C.release_memory()


def test_an_image_of_the_same_size_has_the_same_lattice():
    first = positions()
    assert positions() is first
    others = {
        "height": positions(height=32, width=20),
        "width": positions(width=48),
        "sigma": positions(sigma=4.0),
        "threads": positions(threads=2),
        "volume": positions(depth=1),
    }
    for name, other in others.items():
        assert other is not first, name
    assert positions() is first


def test_only_positions_are_kept():
    image = torch.zeros(1, 20, 32, dtype=torch.uint8)
    how = image.data_ptr(), "uint8", image.stride(), (20, 32), [3.0, 3.0], [5.0], 1
    assert _C.build_image_lattice_cpu(*how) is not _C.build_image_lattice_cpu(*how)


def test_the_ones_used_last_are_kept():
    kept = [positions(sigma=2.0 + i) for i in range(MOST)]
    assert positions(sigma=2.0) is kept[0]  # now the one used last
    positions(sigma=50.0)  # in place of the one used first
    assert positions(sigma=2.0) is kept[0]
    assert positions(sigma=3.0) is not kept[1]


def test_they_are_released_with_the_other_memory():
    first = positions()
    _C.release_memory()
    assert positions() is not first


def test_a_size_that_fails_is_not_kept():
    for _ in range(2):
        with pytest.raises(ValueError, match=r"features: .* too large"):
            positions(sigma=1e-6)


PROGRAM = """
import torch, deeplab_native as dn
from deeplab_native import _C
torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
unary = 3 * torch.rand(1, 12, 40, 48, generator=g)
image = torch.randint(0, 256, (1, 3, 40, 48), generator=g).to(torch.uint8)
q = [dn.dense_crf(unary, image, dn.CRFParams(4, 30, 20, 3, 3)) for _ in range(2)]
assert torch.equal(*q)
how = 0, "uint8", [0, 0, 0], (40, 48), [3.0, 3.0], [], 1
same = _C.build_image_lattice_cpu(*how) is _C.build_image_lattice_cpu(*how)
print(same, q[0].double().sum(dim=(0, 2, 3)).tolist(), q[0].numpy().tobytes().hex()[:4000])
"""


def python(kept):
    env = os.environ | {"DEEPLAB_NATIVE_KEPT_LATTICES": kept}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=300
    )


def run(kept):
    done = python(kept)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(" ", 1)


@pytest.mark.parametrize("kept", ["many", "-1", "8 lattices", "1e3"])
def test_what_the_environment_says_is_a_number(kept):
    done = python(kept)
    assert done.returncode == 1
    assert "ValueError: DEEPLAB_NATIVE_KEPT_LATTICES: expected a number, 0 or more" in done.stderr
    assert f"got '{kept}'" in done.stderr


def test_the_environment_says_how_many_and_results_do_not_depend_on_it():
    kept, expected = run("8")
    built, got = run("0")
    assert (kept, built) == ("True", "False")
    assert got == expected


def test_every_normalisation_takes_the_mass_that_is_kept():
    generator = torch.Generator().manual_seed(1)
    unary = torch.rand(1, 3, 20, 32, generator=generator)
    image = torch.randint(0, 256, (1, 3, 20, 32), generator=generator).to(torch.uint8)
    for normalization in ("symmetric", "before", "after", "none"):
        params = dn.CRFParams(4, 30, 20, 3, 3)
        results = [
            dn.dense_crf(unary, image, params, normalization=normalization) for _ in range(2)
        ]
        assert torch.equal(*results)
