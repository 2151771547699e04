"""Points in tiles of pixels, vertices near their neighbours: the same lattice in another order."""

import itertools

import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C, _variants
from deeplab_native.ops._lattice_cuda import CudaLattice
from deeplab_native.ops.pairwise_features import image_features
from python_tests.ops import reference_crf as reference

CHOICES = list(itertools.product(*(_variants.CHOICES[n] for n in ("crf_tile", "crf_vertices"))))


def pixels_in_tiles(height, width, tile):
    """The pixel that each point is."""
    order = []
    for top, left in itertools.product(range(0, height, tile), range(0, width, tile)):
        rows, columns = range(top, min(top + tile, height)), range(left, min(left + tile, width))
        order += [y * width + x for y, x in itertools.product(rows, columns)]
    return order


@pytest.mark.parametrize("tile", [1, 3, 8, 16])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (8, 16), (17, 23)])
def test_points_go_through_tiles_of_pixels(height, width, tile, cuda_device):
    size, order = (1, 1, height * width), (width, tile)
    maps = torch.arange(height * width, dtype=torch.float32, device=cuda_device)
    rows, back = torch.empty_like(maps), torch.empty_like(maps)
    stream = 0 if cuda_device.type == "cpu" else torch.cuda.current_stream().cuda_stream
    how = maps.data_ptr(), rows.data_ptr(), 1.0, 0.0
    _C.labels_to_rows_cuda("float32", size, order, *how, stream)
    assert rows.int().tolist() == pixels_in_tiles(height, width, tile)
    _C.rows_to_labels_cuda("float32", size, order, rows.data_ptr(), back.data_ptr(), stream)
    assert torch.equal(back, maps)


@pytest.mark.parametrize(("tile", "vertices"), CHOICES)
def test_every_order_gives_the_same_marginals(tile, vertices, photo, cuda_device):
    """But for rounding, and the same bits twice and in any batch."""
    unary, image, params = photo
    unary, image = unary.to(cuda_device), image.to(cuda_device)
    with _variants.use({"crf_tile": "off", "crf_vertices": "first"}):
        expected = dn.dense_crf(unary, image, params, iterations=3)
    with _variants.use({"crf_tile": tile, "crf_vertices": vertices}):
        q = dn.dense_crf(unary, image, params, iterations=3)
        for b in (1, 0):
            one = dn.dense_crf(unary[b : b + 1], image[b : b + 1], params, iterations=3)
            assert torch.equal(one[0], q[b])
    assert (q - expected).abs().max() < 1e-5
    if (tile, vertices) != ("off", "first"):
        assert not torch.equal(q, expected)  # the switch does something


@pytest.mark.parametrize("normalization", ["none", "before", "after", "symmetric"])
def test_gradients_in_tiles(normalization, photo, cuda_device):
    unary, image, params = photo
    grads = []
    for tile in ("8", "off"):
        leaf = unary.to(cuda_device).requires_grad_()
        with _variants.use({"crf_tile": tile}):
            how = {"iterations": 2, "normalization": normalization}
            q = dn.dense_crf(leaf, image.to(cuda_device), params, **how)
            (q * torch.arange(41, device=cuda_device)).sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spread", [0.3, 3, 300])
@pytest.mark.parametrize("vertices", _variants.CHOICES["crf_vertices"])
@pytest.mark.parametrize(("images", "points", "d"), [(1, 40, 2), (3, 700, 5), (1, 3000, 3)])
def test_filters_of_many_vertices(images, points, d, vertices, spread, cuda_device):
    """One to three passes of the sort, images of different numbers of vertices."""
    generator = torch.Generator().manual_seed(points)
    features = torch.randn(images, points, d, generator=generator) * spread
    features *= torch.linspace(1, 0.1, images)[:, None, None]
    values = torch.randn(images, points, 2, generator=generator)
    with _variants.use({"crf_vertices": vertices}):
        lattice = CudaLattice(features.to(cuda_device))
        out = dn.permutohedral_filter(values.to(cuda_device), features.to(cuda_device))
    references = [reference.Lattice(f.numpy()) for f in features]
    assert lattice.num_vertices() == [len(r.index) for r in references]
    for one, v, r in zip(out, values, references, strict=True):
        expected = torch.from_numpy(r.filter(v.double().numpy()))
        torch.testing.assert_close(one.cpu().double(), expected, rtol=0, atol=5e-5)


def test_neighbours_have_near_numbers(cuda_device):
    """The rows that the neighbours of 42 rows lie in are fewer than in the order of the points."""
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(
        torch.rand(1, 3, 8, 10, generator=generator) * 255, size=(64, 80), mode="bilinear"
    )
    features = image_features(image.to(cuda_device), 20, 7)
    asked = {}
    for vertices in ("near", "first"):
        with _variants.use({"crf_vertices": vertices}):
            lattice = CudaLattice(features, order=(80, 8))
        (count,) = lattice.num_vertices()
        found = neighbours(lattice)[:, :count].cpu()
        own = torch.arange(count)[None, :, None].expand(len(found), -1, 1)
        rows = torch.cat((own, found), 2)
        groups = [rows[:, i : i + 42].flatten(1) for i in range(0, count, 42)]
        asked[vertices] = sum(len(of_axis.unique()) for g in groups for of_axis in g)
    assert asked["near"] < 0.95 * asked["first"]


def neighbours(lattice):
    """[corners][entries][2], where lattice_view has them."""
    images, points, d, *_ = lattice.size
    entries = images * -(-points // 32) * 32 * (d + 1)
    sizes = [4 * (images + 1), 4 * images, 4 * entries, 4 * entries]
    begin = sum(-(-s // 256) * 256 for s in sizes)
    own = lattice.memory[begin : begin + 8 * entries * (d + 1)]
    return own.view(torch.int32).view(d + 1, entries, 2)
