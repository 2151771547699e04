"""The native mean field of one CRF, with a lock around it."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from .. import _C
from ._checks import Floats, address, aligned, element_strides


class Field:
    """Arguments were checked; every q and u is C-contiguous float32 (L, N)."""

    def __init__(self, labels: int, points: int, threads: int, width: int = 0) -> None:
        """width: of the image whose pixels the points are, 0 for others."""
        self.shape = labels, points
        self.has_unary = False
        self._threads, self._width = threads, width
        self._native = _C.MeanFieldFloat(points, labels, threads, width)
        self._lock = threading.Lock()  # the native object locks inference, but not its set-up

    def add_kernel(
        self, name: str, features: Floats, kind: int, values: list[float], normalization: int
    ) -> None:
        """Features (d, N), of any strides, which errors call `name`."""
        strides = element_strides(features)
        if strides is None:
            features = aligned(features)
            strides = features.shape[1], 1
        d, n = features.shape
        where = address(features), n, d, strides[1], strides[0]
        try:
            lattice = _C.build_lattice_cpu(*where, self._threads, True, self._width)
        except ValueError as error:
            raise ValueError(str(error).replace("features", name, 1)) from None
        with self._lock:
            self._native.add_kernel(lattice, kind, values, normalization)

    def add_image_kernel(
        self,
        name: str,
        image: NDArray[np.uint8] | None,
        sxy: tuple[float, float],
        srgb: list[float],
        kind: int,
        values: list[float],
        normalization: int,
    ) -> None:
        """Of the pixels of an image (H, W, 3) of any strides, or of their positions alone."""
        start, y, x, c = (0, 0, 0, 0) if image is None else (address(image), *image.strides)
        size = self.shape[1] // self._width, self._width
        where = start, "uint8", (c, y, x), size, sxy[::-1], srgb
        try:
            lattice = _C.build_image_lattice_cpu(*where, self._threads)
        except ValueError as error:
            raise ValueError(str(error).replace("features", name, 1)) from None
        with self._lock:
            self._native.add_kernel(lattice, kind, values, normalization)

    def set_unary(self, u: Floats) -> None:
        """Copies it."""
        with self._lock:
            self._set_unary(u)

    def _set_unary(self, u: Floats) -> None:
        self._native.set_unary(address(u))
        self.has_unary = True

    def _prepare(self) -> None:
        """Energies of 0 where none were set."""
        if not self.has_unary:
            self._set_unary(np.zeros(self.shape, np.float32))
            self.has_unary = False

    def inference(self, q: Floats, iterations: int) -> None:
        """Into q, from softmax(-U)."""
        with self._lock:
            self._prepare()
            self._native.inference(address(q), iterations)

    def start(self, q: Floats) -> None:
        """softmax(-U) into q, or 0 where no energies were set."""
        with self._lock:
            if self.has_unary:
                self._native.start(address(q))
            else:
                q.fill(0)

    def step(self, q: Floats) -> None:
        """One update of q, in place."""
        with self._lock:
            self._prepare()
            self._native.step(address(q), address(q))

    def kl_divergence(self, q: Floats) -> float:
        """Up to the constant log Z."""
        with self._lock:
            self._prepare()
            return self._native.kl_divergence(address(q))
