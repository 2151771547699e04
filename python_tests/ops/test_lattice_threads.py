"""Building a lattice by several threads: their tables merged region by region."""

import pytest
import torch

from deeplab_native import _C, permutohedral_filter
from deeplab_native.ops.permutohedral import _filter


def points(n, d, spread, channels=3):
    generator = torch.Generator().manual_seed(d)
    values = torch.randn(n, channels, generator=generator, dtype=torch.float64)
    return values, torch.randn(n, d, generator=generator) * spread


def num_vertices(features, threads):
    n, d = features.shape
    return _C.build_lattice_cpu(features.data_ptr(), n, d, d, 1, threads, False).num_vertices


# keys of 1, 2, 4 and 8 words, and vertices named by points; from one region to many
@pytest.mark.parametrize("spread", [0.1, 3.0, 1000.0])
@pytest.mark.parametrize(
    ("n", "d"), [(40, 5), (4000, 2), (4000, 5), (3000, 9), (1500, 16), (900, 20)]
)
def test_any_number_of_threads_makes_the_same_lattice(n, d, spread, set_threads):
    values, features = points(n, d, spread)
    expected, vertices = None, num_vertices(features, 1)
    for threads in (1, 2, 3, 8, 17):
        assert num_vertices(features, threads) == vertices
        set_threads(threads)
        out = permutohedral_filter(values, features)
        assert torch.equal(permutohedral_filter(values, features), out)
        turned = (_filter(values, features, True, False) * values).sum()
        torch.testing.assert_close(turned, (values * out).sum(), rtol=1e-10, atol=1e-10)
        expected = out if expected is None else expected
        torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("threads", [2, 5])
def test_vertices_that_all_threads_touch(threads, set_threads):
    """All points lie in a few simplices: what the threads add up is all there is."""
    values, features = points(5000, 3, 0.01)
    set_threads(1)
    expected = permutohedral_filter(values, features)
    set_threads(threads)
    torch.testing.assert_close(
        permutohedral_filter(values, features), expected, rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_keys_in_a_row(threads, set_threads):
    """Vertices along one line: hashes with a regular distance, which may fill regions unevenly."""
    features = torch.zeros(40_000, 2)
    features[:, 0] = torch.arange(40_000.0) * 3
    values = torch.ones(40_000, 1, dtype=torch.float64)
    assert num_vertices(features, threads) == num_vertices(features, 1) > 40_000
    set_threads(threads)
    out = permutohedral_filter(values, features)
    set_threads(1)
    torch.testing.assert_close(out, permutohedral_filter(values, features), rtol=1e-11, atol=1e-11)
