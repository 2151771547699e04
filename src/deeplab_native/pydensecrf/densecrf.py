"""The fully connected CRF with pydensecrf's interface (Kraehenbuehl and Koltun 2011).

    Q <- softmax(-U - sum_m compat_m(K_m Q)),   K_m(i, j) = exp(-|f_i - f_j|^2 / 2)

over N points and L labels, with the permutohedral lattice's approximation of K. Not in pydensecrf:
`set_num_threads` and `get_num_threads`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import _C
from .._memory import check_memory, least_bytes_of_lattice
from . import eigen
from ._checks import (
    LARGEST_INT,
    Floats,
    aligned,
    array,
    choice,
    compatibility,
    energies,
    float_array,
    integer,
    sigmas,
)
from ._field import Field
from ._kinds import (
    CONST_KERNEL,
    DIAG_KERNEL,
    FULL_KERNEL,
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    KernelType,
    NormalizationType,
)
from ._threads import get_num_threads, set_num_threads
from ._unary import ConstUnary, LogisticUnary, Unary, product

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "ConstUnary",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "LogisticUnary",
    "NormalizationType",
    "Unary",
    "eigen",
    "get_num_threads",
    "set_num_threads",
]


Compatibility = float | Floats


class DenseCRF:
    """A CRF over N = `nvar` points and L = `nlabels` labels; further arguments are ignored.

    Python threads may share an object: they wait for each other. It has the threads of
    `get_num_threads()` when it is made, and cannot be copied or pickled.

    Every method checks its arguments before it changes anything: TypeError for what is no array or
    no number, ValueError for a wrong shape, dtype or value, OverflowError for a size of 2^31 or
    more, MemoryError where the least that it takes is not free. Arrays are float32; float64 and
    float16 are converted, and strides and read-only memory do not matter.
    """

    def __init__(self, nvar: int, nlabels: int, *_: object, **__: object) -> None:
        self._nvar = integer("nvar", nvar, least=1)
        self._nlabels = integer("nlabels", nlabels, least=1)
        self._threads = get_num_threads()
        self._field = Field(self._nlabels, self._nvar, self._threads, self._image_width())

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(f"{kind}: it holds native memory, and cannot be copied or pickled")

    def _image_width(self) -> int:
        """Of the image whose pixels the points are; 0 for others."""
        return 0

    def addPairwiseEnergy(
        self,
        features: Floats,
        compat: Compatibility,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds a kernel.

        Args:
            features: (d, N), divided by their standard deviations; 1 to 64 dimensions.
            compat: with F = K Q, a number w adds the energy -w F (Potts), a float32 vector v (L,)
                adds v F label by label, a float32 matrix M (L, L) adds 1/2 (M + M^T) F. So 3, the
                vector -3 and the matrix -3 I are the same.
            kernel: checked, and without effect on inference.
            normalization: a NormalizationType.

        Raises:
            ValueError: also for features with NaN or infinite values, and where they reach too far
                for the lattice's integer coordinates.
        """
        floats = float_array("features", features, 2, "(d, N)")
        if floats.shape[1] != self._nvar:
            raise ValueError(
                f"features: bad shape for pairwise energy, need (?, {self._nvar}), "
                f"got {floats.shape}"
            )
        how = self._check_kernel(floats.shape[0], compat, kernel, normalization)
        self._field.add_kernel("features", floats, *how)

    def setUnary(self, u: Unary) -> None:
        """The energies of a ConstUnary or LogisticUnary, (L, N)."""
        if not isinstance(u, (ConstUnary, LogisticUnary)):
            kind = type(u).__name__
            raise TypeError(f"u: expected a ConstUnary or LogisticUnary, got {kind}")
        self._set_unary("u", u.energies)

    def setUnaryEnergy(self, u: Floats, f: Floats | None = None) -> None:
        """The energies -log p: u (L, N), or u @ f with u (L, k) and f (k, N).

        They are copied. +inf is a label that the point cannot have.

        Raises:
            ValueError: also for NaN, -inf, or a point that can have no label.
        """
        floats = float_array("u", u, 2, "(L, N)")
        if f is None:
            self._set_unary("u", floats)
        else:
            self._set_unary("u @ f", product("u", floats, "f", float_array("f", f, 2, "(k, N)")))

    def inference(self, niter: int) -> eigen.MatrixXf:
        """Q (L, N) after `niter` iterations from softmax(-U); U is 0 where none was set."""
        niter = integer("niter", niter, least=0)
        q = self._empty_q()
        self._field.inference(q, niter)
        return q

    def startInference(self) -> tuple[eigen.MatrixXf, eigen.MatrixXf, eigen.MatrixXf]:
        """Q (L, N) for `stepInference`, and the two matrices that it takes and does not use.

        Q is softmax(-U), or 0 where no unary was set.
        """
        q = self._empty_q()
        self._field.start(q)
        return q, eigen.MatrixXf(), eigen.MatrixXf()

    def stepInference(self, Q: eigen.MatrixXf, tmp1: eigen.MatrixXf, tmp2: eigen.MatrixXf) -> None:
        """One iteration, in place: arrays that view Q see the new values."""
        q = self._check_q(Q)
        for name, tmp in (("tmp1", tmp1), ("tmp2", tmp2)):
            if not isinstance(tmp, eigen.MatrixXf):
                raise TypeError(f"{name}: expected a MatrixXf, got {type(tmp).__name__}")
        if not q.flags.carray:
            raise ValueError("Q: expected a MatrixXf as startInference gives it, got a part of one")
        self._field.step(q)

    def klDivergence(self, Q: eigen.MatrixXf) -> float:
        """KL(Q || P) up to the constant log Z, as pydensecrf counts it (pairs twice)."""
        return self._field.kl_divergence(aligned(self._check_q(Q)))

    def _empty_q(self) -> eigen.MatrixXf:
        size = 4 * self._nlabels * self._nvar
        what = f"Q of {self._nlabels} labels and {self._nvar} points"
        check_memory(what, size if self._field.has_unary else 2 * size)
        return eigen.empty_matrix(self._nlabels, self._nvar)

    def _check_q(self, Q: object) -> Floats:
        if not isinstance(Q, eigen.MatrixXf):
            raise TypeError(
                f"Q: expected a MatrixXf (eigen.matrixXf makes one of an array), "
                f"got {type(Q).__name__}"
            )
        shape = self._nlabels, self._nvar
        if Q.shape != shape or Q.dtype != np.float32:
            raise ValueError(f"Q: expected float32 {shape}, got {Q.dtype} {Q.shape}")
        return np.asarray(Q)

    def _check_kernel(
        self, d: int, compat: object, kernel: object, normalization: object
    ) -> tuple[int, list[float], int]:
        """What native add_kernel takes; all that can be checked before features are made."""
        if not 1 <= d <= _C.max_feature_dim:
            raise ValueError(f"features: expected 1 to {_C.max_feature_dim} dimensions, got {d}")
        if self._nvar > LARGEST_INT // (d + 1):
            raise ValueError(
                f"features: expected at most {LARGEST_INT // (d + 1)} points in {d} dimensions, "
                f"got {self._nvar}"
            )
        choice("kernel", kernel, KernelType)
        kind, values = compatibility(compat, self._nlabels)
        number = choice("normalization", normalization, NormalizationType)
        size = least_bytes_of_lattice(self._nvar, d)
        check_memory(f"a kernel of {self._nvar} points in {d} dimensions", size)
        return kind, values, number

    def _set_unary(self, name: str, u: Floats) -> None:
        if u.shape != (self._nlabels, self._nvar):
            raise ValueError(
                f"{name}: bad shape for unary energy, need {(self._nlabels, self._nvar)}, "
                f"got {u.shape}"
            )
        check_memory(f"{name} of {self._nlabels} labels and {self._nvar} points", u.nbytes)
        self._field.set_unary(energies(name, u, self._threads))


class DenseCRF2D(DenseCRF):
    """A CRF over the pixels of a w x h image; pixel (x, y) is point y * w + x."""

    def __init__(self, w: int, h: int, nlabels: int, *_: object, **__: object) -> None:
        w, h = integer("w", w, least=1), integer("h", h, least=1)
        integer("w * h", w * h, least=1)
        self._w, self._h = w, h
        super().__init__(w * h, nlabels)

    def _image_width(self) -> int:
        return self._w

    def addPairwiseGaussian(
        self,
        sxy: float | Sequence[float],
        compat: Compatibility,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds the kernel of the features (x / sx, y / sy).

        sxy: standard deviations in pixels, one for both axes or (sx, sy). The rest is as in
        `addPairwiseEnergy`.
        """
        sx, sy = sigmas("sxy", sxy, 2, "x, y")
        how = self._check_kernel(2, compat, kernel, normalization)
        self._field.add_image_kernel("pixels / sxy", None, (sx, sy), [], *how)

    def addPairwiseBilateral(
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        rgbim: NDArray[np.uint8],
        compat: Compatibility,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds the kernel of the features (x / sx, y / sy, r / sr, g / sg, b / sb).

        sxy: standard deviations in pixels, one for both axes or (sx, sy). srgb: in grey levels, one
        for all channels or three. rgbim: (h, w, 3) uint8; for other images see
        `utils.create_pairwise_bilateral`. The rest is as in `addPairwiseEnergy`.
        """
        sx, sy = sigmas("sxy", sxy, 2, "x, y")
        deviations = sigmas("srgb", srgb, 3, "r, g, b")
        image = array("rgbim", rgbim)
        if image.dtype != np.uint8:
            raise ValueError(
                f"rgbim: expected dtype uint8, values 0..255, got {image.dtype} "
                f"({_to_uint8(image.dtype)})"
            )
        need = self._h, self._w, 3
        if image.shape != need:
            hint = "; for other channels see utils.create_pairwise_bilateral"
            if image.shape == (3, self._h, self._w):
                hint = "; channels last: rgbim.transpose(1, 2, 0)"
            raise ValueError(
                f"rgbim: bad shape for pairwise bilateral, need {need}, got {image.shape}"
                + (hint if image.shape[2:] != (3,) else "")
            )
        how = self._check_kernel(5, compat, kernel, normalization)
        self._field.add_image_kernel("rgbim / (sxy, srgb)", image, (sx, sy), deviations, *how)


def _to_uint8(dtype: np.dtype[Any]) -> str:
    """How an image of another dtype becomes one of 0..255."""
    convert = "astype(numpy.uint8)"
    if dtype.kind == "f":
        return f"(255 * rgbim).round().{convert} of values 0..1, rgbim.{convert} of 0..255"
    if dtype.itemsize == 2:
        return f"(rgbim // 257).{convert} of 16 bits, rgbim.{convert} of values 0..255"
    return f"rgbim.{convert} of values 0..255"
