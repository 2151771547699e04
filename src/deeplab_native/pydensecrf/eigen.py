"""Matrices and vectors as pydensecrf returns them: buffers that NumPy views without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import Floats, strict_float_array

_NUMPY_1 = np.__version__.startswith("1.")


class _Buffer(np.ndarray[Any, np.dtype[np.float32]]):
    """An array, because only a C type can export a buffer before Python 3.12.

    Only the object itself is a MatrixXf or VectorXf: what NumPy's functions compute with it are
    plain arrays.
    """

    def __array_wrap__(
        self, array: NDArray[Any], context: Any = None, return_scalar: bool = False
    ) -> Any:
        plain = np.asarray(array)
        if _NUMPY_1:  # which does not say: what reductions give has no dimensions
            return_scalar = plain.ndim == 0
        return plain[()] if return_scalar else plain

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = super().__array_function__(func, types, args, kwargs)
        return np.asarray(result) if isinstance(result, _Buffer) else result

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()


class VectorXf(_Buffer):
    """float32 (n,). `numpy.asarray(v)` is a live, writable view of it."""

    def __new__(cls, *_: object, **__: object) -> VectorXf:
        """An empty one, (0,), whatever is given: `vectorXf` makes one of an array."""
        vector: VectorXf = super().__new__(cls, (0,), np.float32)
        return vector


class MatrixXf(_Buffer):
    """float32 (rows, columns). `numpy.asarray(Q)` is a live, writable view of it."""

    def __new__(cls, *_: object, **__: object) -> MatrixXf:
        """An empty one, (0, 0), whatever is given: `matrixXf` makes one of an array."""
        matrix: MatrixXf = super().__new__(cls, (0, 0), np.float32)
        return matrix


def vectorXf(arr: Floats) -> VectorXf:
    """A copy of a float32 array (n,), of any strides.

    TypeError where it is no array, ValueError for another shape or dtype.
    """
    vector: VectorXf = strict_float_array("arr", arr, 1, "(n,)").copy("C").view(VectorXf)
    return vector


def matrixXf(arr: Floats) -> MatrixXf:
    """A copy of a float32 array (rows, columns), of any strides.

    For `DenseCRF.klDivergence` and `stepInference` of one's own marginals. TypeError where it is no
    array, ValueError for another shape or dtype.
    """
    matrix: MatrixXf = strict_float_array("arr", arr, 2, "(rows, columns)").copy("C").view(MatrixXf)
    return matrix


def empty_matrix(rows: int, columns: int) -> MatrixXf:
    """Not initialised."""
    matrix: MatrixXf = np.empty((rows, columns), np.float32).view(MatrixXf)
    return matrix
