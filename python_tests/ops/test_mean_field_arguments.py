"""What mean_field refuses: each argument by its name, before anything is computed."""

import pytest
import torch

import deeplab_native as dn
from deeplab_native.ops._mean_field_cpu import _NATIVE

U, F = torch.zeros(1, 3, 10), torch.zeros(10, 2)


@pytest.mark.parametrize(
    ("unary", "kernels", "error", "message"),
    [
        (U[0, 0], [(F, 1)], ValueError, r"unary: expected 3 dimensions \(B, L, N\)"),
        (U.long(), [(F, 1)], TypeError, "unary: expected dtype torch.float32 or torch.float64"),
        (U[:, :0], [(F, 1)], ValueError, "unary: expected at least one label"),
        (U + torch.nan, [(F, 1)], ValueError, "unary: expected finite energies"),
        (U - torch.inf, [(F, 1)], ValueError, "unary: expected finite energies"),
        (U, [(F[:3], 1)], ValueError, r"kernels\[0\].features: expected one row for each"),
        (
            U,
            [(F, 1), (F, [1.0, 2.0])],
            ValueError,
            r"kernels\[1\].compatibility: .*got shape \(2,\)",
        ),
        (U, [(F, torch.nan)], ValueError, r"kernels\[0\].compatibility: expected finite numbers"),
        (U, [(F, 1, "sum")], ValueError, "normalization: expected one of none, before, after"),
        (U, [(F, 1, ["sum"])], ValueError, "normalization: expected one of none, before, after"),
        (U, 3, TypeError, "kernels: expected a list of them, got int"),
        (U, [F], TypeError, r"kernels\[0\]: expected \(features, compatibility"),
        (U, [(F, "x")], TypeError, r"kernels\[0\].compatibility: expected numbers or a tensor"),
        (
            U,
            [(F / 0, 1)],
            ValueError,
            r"kernels\[0\].features: dimension 0 has .* NaN",
        ),
        (torch.stack((U[0], U[0] / 0)), [(F, 1)], ValueError, "unary: expected finite energies"),
    ],
)
def test_bad_input(unary, kernels, error, message):
    with pytest.raises(error, match=message):
        dn.mean_field(unary, kernels)
    with pytest.raises(error, match=message):
        dn.MeanField(unary, kernels).start()


@pytest.mark.parametrize(
    ("iterations", "error"), [(-1, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_bad_iterations(iterations, error):
    with pytest.raises(error, match="iterations: expected"):
        dn.mean_field(U, [(F, 1)], iterations=iterations)


def test_a_batch_is_checked_before_its_first_image_runs(monkeypatch):
    """Features of the last image that are not finite: nothing may have been inferred by then."""
    unary, own = torch.zeros(2, 3, 10), torch.zeros(2, 10, 5)
    own[1, 0, 0] = torch.nan
    monkeypatch.setitem(_NATIVE, torch.float32, None)  # making a native object would fail
    with pytest.raises(ValueError, match=r"kernels\[0\].features: dimension 0 has .* NaN"):
        dn.mean_field(unary, [(own, 3.0)])


def test_bad_marginals():
    crf = dn.MeanField(U, [(F, 1)])
    with pytest.raises(ValueError, match=r"q: expected shape \(1, 3, 10\)"):
        crf.step(U[..., :5])
    with pytest.raises(TypeError, match=r"q: expected dtype torch\.float32"):
        crf.kl_divergence(U.double())
