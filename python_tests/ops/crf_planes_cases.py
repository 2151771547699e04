"""Images and energies that lead the CPU mean field through all of its ways, and both precisions."""

from __future__ import annotations

import numpy as np

from deeplab_native import _C

SIZES = {
    "tiles": (32, 64),
    "partial tiles": (37, 45),
    "narrow": (70, 20),
    "one row": (1, 64),
    "one column": (50, 1),
    "one pixel": (1, 1),
}
UNARIES = ("random", "confident", "object", "hard", "uniform", "above", "below", "excluded")


def picture(height, width, seed=0):
    """Eight columns of colours with noise, and a darker object: uint8 (H, W, 3)."""
    random = np.random.default_rng(seed)
    image = regions(height, width)[..., None] * np.array([30, 17, 9]) + 20
    image = image + random.integers(0, 12, (height, width, 3))
    image[inside(height, width)] -= 15
    return np.ascontiguousarray(image.astype(np.uint8))


def regions(height, width):
    return np.broadcast_to(np.arange(width) * 8 // width, (height, width))


def inside(height, width):
    """A small object, off the borders of the tiles."""
    mask = np.zeros((height, width), bool)
    mask[height // 2 : height // 2 + 5, width // 2 : width // 2 + 6] = True
    return mask


def energies(kind, labels, height, width, seed=0):
    """float32 (L, H W)."""
    random = np.random.default_rng(seed)
    noise = np.round(random.normal(size=(labels, height, width)) * 128) / 64
    # labels of the columns in an order of their own, those of the object after them
    order = random.permutation(labels)
    truth = order[np.minimum(regions(height, width), labels - 1)]
    if kind == "object":
        truth = np.where(inside(height, width), order[-1], truth)
    wrong = np.arange(labels)[:, None, None] != truth
    unary = {
        "random": noise,
        "confident": 14.0 * wrong + noise,
        "object": 14.0 * wrong + noise,
        "hard": 30.0 * wrong,
        "uniform": 0 * noise,
        "above": noise + 1e4,  # multiples of 1/64: nothing is rounded away
        "below": noise - 1e4,
        "excluded": noise,
    }[kind]
    if kind == "excluded":
        unary[order[1:][::3], : (height + 1) // 2] = np.inf
        unary[order[1:][1::4]] = np.inf
    return np.ascontiguousarray(unary, np.float32).reshape(labels, -1)


def image_lattice(image, sigma_xy, sigma_rgb, threads, dtype="uint8"):
    """Of image (H, W, C) with any strides, or of positions alone where sigma_rgb is ()."""
    height, width, _ = image.shape
    strides = [s // image.itemsize for s in image.strides]
    return _C.build_image_lattice_cpu(
        image.ctypes.data,
        dtype,
        (strides[2], strides[0], strides[1]),
        (height, width),
        sigma_xy[::-1],
        list(sigma_rgb),
        threads,
    )


def point_lattice(features, threads):
    """Of features (N, d), as pydensecrf builds it."""
    features = np.ascontiguousarray(features, np.float32)
    n, d = features.shape
    return _C.build_lattice_cpu(features.ctypes.data, n, d, d, 1, threads, True)


class Crf:
    """A native mean field over arrays: unary (L, N), kernels of (lattice, C, normalization)."""

    def __init__(self, unary, kernels, threads=1, width=0, dtype=np.float32):
        self.dtype, self.shape = dtype, unary.shape
        native = _C.MeanFieldFloat if dtype == np.float32 else _C.MeanFieldDouble
        self.native = native(unary.shape[1], unary.shape[0], threads, width)
        self.set_unary(unary)
        for lattice, c, normalization in kernels:
            c = np.asarray(c, np.float64)  # its dimensions are its kind
            self.native.add_kernel(lattice, c.ndim, c.ravel().tolist(), normalization)

    def set_unary(self, unary):
        unary = np.ascontiguousarray(unary, self.dtype)
        self.native.set_unary(unary.ctypes.data)

    def inference(self, iterations):
        q = np.full(self.shape, np.nan, self.dtype)
        self.native.inference(q.ctypes.data, iterations)
        return q

    def start(self):
        q = np.full(self.shape, np.nan, self.dtype)
        self.native.start(q.ctypes.data)
        return q

    def step(self, q):
        q, to = np.ascontiguousarray(q, self.dtype), np.full(self.shape, np.nan, self.dtype)
        self.native.step(q.ctypes.data, to.ctypes.data)
        return to

    def kl_divergence(self, q):
        q = np.ascontiguousarray(q, self.dtype)
        return self.native.kl_divergence(q.ctypes.data)


def usual_kernels(image, threads, weights=(3.0, 5.0)):
    """A Gaussian and a bilateral kernel."""
    normalization = 3  # symmetric
    return [
        (image_lattice(image, (3, 3), (), threads), weights[0], normalization),
        (image_lattice(image, (30, 30), (12, 12, 12), threads), weights[1], normalization),
    ]


def both(unary, kernels, threads=1, width=0):
    """In float, and in double, which leaves no labels out."""
    return (
        Crf(unary, kernels, threads, width),
        Crf(unary, kernels, threads, width, np.float64),
    )
