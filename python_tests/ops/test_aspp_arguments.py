"""What aspp refuses, and the layer that takes the branches one by one then."""

from __future__ import annotations

import pytest
import torch

from deeplab_native import ASPP, aspp

X = torch.zeros(2, 3, 8, 8)
W = torch.zeros(4, 3, 3, 3)
B = torch.zeros(4)
MANY = [torch.zeros(1, 3, 7, 7)] * 7


@pytest.mark.parametrize(
    "error, words, call",
    [
        (TypeError, "input.*ndarray", lambda: aspp(X.numpy(), [W], None, [1])),
        (TypeError, "input.*int64", lambda: aspp(X.long(), [W], None, [1])),
        (ValueError, r"input.*4 dim", lambda: aspp(X[0], [W], None, [1])),
        (
            ValueError,
            r"input.*one pixel.*3, 0, 8",
            lambda: aspp(X[:, :, :0], [W], None, [1]),
        ),
        (TypeError, "weights.*list.*Tensor", lambda: aspp(X, W, None, [1])),
        (ValueError, "weights.*one branch", lambda: aspp(X, [], [], [])),
        (TypeError, r"weights\[1\].*None", lambda: aspp(X, [W, None], None, [1, 2])),
        (ValueError, r"weights\[0\].*4 dim", lambda: aspp(X, [W[0]], None, [1])),
        (ValueError, r"weights\[1\].*4 filters", lambda: aspp(X, [W, W[:3]], None, [1, 2])),
        (ValueError, r"weights\[0\].*3 channels", lambda: aspp(X, [W[:, :2]], None, [1])),
        (ValueError, r"weights\[0\].*odd", lambda: aspp(X, [W[..., :2]], None, [1])),
        (ValueError, r"weights\[0\].*empty", lambda: aspp(X, [W[:0]], None, [1])),
        (TypeError, "biases.*Tensor", lambda: aspp(X, [W], B, [1])),
        (ValueError, "biases.*2 weights, got 1", lambda: aspp(X, [W, W], [B], [1, 2])),
        (ValueError, r"biases\[0\].*\(4,\)", lambda: aspp(X, [W], [B[:3]], [1])),
        (TypeError, r"biases\[0\].*float", lambda: aspp(X, [W], [1.0], [1])),
        (TypeError, "rates.*int", lambda: aspp(X, [W], None, 1)),
        (ValueError, "rates.*1 weights, got 2", lambda: aspp(X, [W], None, [1, 2])),
        (ValueError, r"rates\[1\].*at least 1.*0", lambda: aspp(X, [W, W], None, [1, 0])),
        (TypeError, r"rates\[0\].*1.5", lambda: aspp(X, [W], None, [1.5])),
        (TypeError, "one dtype.*float64", lambda: aspp(X, [W.double()], None, [1])),
        (TypeError, r"one dtype.*biases\[0\]", lambda: aspp(X, [W], [B.half()], [1])),
        (ValueError, "one device.*meta", lambda: aspp(X, [W.to("meta")], None, [1])),
        (
            ValueError,
            "weights.*256.*got",
            lambda: aspp(torch.zeros(1, 3, 64, 64), MANY, None, [1, 2, 3, 5, 7, 8, 9]),
        ),
    ],
)
def test_bad_arguments(error, words, call):
    with pytest.raises(error, match=words):
        call()


# ---- the layer ----
@pytest.mark.parametrize("filters, kernel_size", [(5, 3), (80, 3), (2, 9), (2, 2)])
def test_layer_takes_any_size(filters, kernel_size, device):
    """Many filters or taps, or even kernels, that the fused product is not for."""
    layer = ASPP(3, filters, (2, 4, 6, 8), kernel_size, device=device)
    input = torch.randn(1, 3, 6, 5, device=device)
    expected = sum(branch(input) for branch in layer.branches())
    torch.testing.assert_close(layer(input), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer(input), expected, rtol=1e-5, atol=1e-5)


def test_layer_runs_fused_or_branch_by_branch():
    """Both give the same; a branch that was changed is run as what it is."""
    layer = ASPP(8, 5, (2, 4, 6))
    input = torch.randn(2, 8, 9, 7)
    expected = sum(branch(input) for branch in layer.branches())
    torch.testing.assert_close(layer(input), expected, rtol=1e-5, atol=1e-5)
    for algorithm in ("aten", "im2col", "space_to_batch"):
        other = ASPP(8, 5, (2, 4, 6), algorithm=algorithm)
        other.load_state_dict(layer.state_dict())
        torch.testing.assert_close(other(input), expected, rtol=1e-5, atol=1e-5)
    seen = []
    layer.c1.register_forward_hook(lambda *args: seen.append(args))
    torch.testing.assert_close(layer(input), expected, rtol=1e-5, atol=1e-5)
    assert len(seen) == 1
