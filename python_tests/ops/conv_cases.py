"""What the tests of the atrous convolution share."""

from __future__ import annotations

import torch

NATIVE = ["im2col", "space_to_batch"]  # on the CPU, and everywhere else
ALGORITHMS = [*NATIVE, "aten", "auto"]
# The device fixture's name and an algorithm that the device has.
NATIVE_ON = [
    *(("cpu", algorithm) for algorithm in NATIVE),
    *((device, a) for device in ("emulated", "cuda") for a in (*NATIVE, "direct")),
]
ALGORITHMS_ON = [*NATIVE_ON, *((device, a) for device in ("cpu", "cuda") for a in ("aten", "auto"))]


def tensors(size, filters, dtype=torch.float64, device="cpu"):
    input = torch.randn(size, dtype=dtype, device=device)
    weight = torch.randn(filters[0], size[1], *filters[1:], dtype=dtype, device=device)
    return input, weight, torch.randn(filters[0], dtype=dtype, device=device)


def assert_near(actual, expected, tolerance):
    """Relative to the largest value: single pixels may cancel out."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().item() if expected.numel() else 1.0
    torch.testing.assert_close(
        actual.to(expected), expected, rtol=0, atol=tolerance * scale, check_stride=False
    )


# of torch.library.opcheck
ALL_CHECKS = (
    "test_schema",
    "test_autograd_registration",
    "test_faketensor",
    "test_aot_dispatch_dynamic",  # takes most of the time
)
