"""Small whole files of every kind that is read."""

from __future__ import annotations

import numpy as np

from python_tests.weights.checkpoint_cases import layer, message, v1_layer


def caffemodels() -> list[bytes]:
    """Both versions of layers; numbers packed, one by one, and double."""
    values = np.arange(8, dtype=np.float32)
    vector = values[:2]
    return [
        message(1, "net") + layer("conv1_1", "Convolution", [values.reshape(2, 1, 2, 2), vector]),
        layer("bn", "BatchNorm", [vector, vector, np.float32([1])]),
        layer("fc6", "InnerProduct", [values.reshape(4, 2)], packed=False),
        v1_layer("fc7", 14, [values.reshape(4, 2), values[:4]]),
        v1_layer("conv1_2", 4, [values[:4].reshape(1, 4, 1, 1)], double=True),
    ]
