"""Mean field inference that can be watched and steered one iteration at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._native import check_tensor
from ..ops._mean_field_checks import (
    NORMALIZATIONS,
    PairwiseKernel,
    check_iterations,
    check_kernels,
    check_normalization,
    check_unary,
    widen,
)
from ..ops.mean_field import native_images
from ..ops.pairwise_features import KERNEL_NAMES, check_image, image_features, position_features
from .params import CRFParams, check_params


class MeanField:
    """A fully connected CRF over a batch, with its lattices built once.

    Args:
        unary: energies (B, L, N), float32 or float64, finite.
        kernels: `PairwiseKernel`s (features, compatibility, normalization).

    Every method takes and gives marginals of the unary's shape and dtype. For gradients use
    `deeplab_native.mean_field` or `dense_crf`. Python threads may share an object, one at a time
    computes; it holds native memory and cannot be copied or pickled.

    Example:
        >>> crf = MeanField.from_image(unary, image, CRFParams.preset("voc-resnet101"))
        >>> q = crf.start()
        >>> for _ in range(10):
        ...     q = crf.step(q)

    Raises:
        TypeError, ValueError: naming the argument, before any lattice is built.
    """

    def __init__(self, unary: torch.Tensor, kernels: Sequence[PairwiseKernel]) -> None:
        unary = widen(unary)
        check_unary(unary, ndim=3, layout="(B, L, N)")
        _check_cpu(unary)
        self._build(unary, check_kernels(unary, kernels), unary.shape)

    @classmethod
    def from_image(
        cls,
        unary: torch.Tensor,
        image: torch.Tensor,
        params: CRFParams,
        *,
        normalization: str = "symmetric",
    ) -> MeanField:
        """The CRF of `dense_crf`: unary (B, L, H, W), image (B, 3, H, W); shapes stay so."""
        unary = widen(unary)
        check_unary(unary, ndim=4, layout="(B, L, H, W)")
        check_image(image, unary)
        check_params(params)
        check_normalization(normalization)
        _check_cpu(unary)
        height, width = image.shape[2:]
        gaussian = position_features(height, width, params.sigma_gamma)
        bilateral = image_features(image, params.sigma_alpha, params.sigma_beta)
        kernels = [
            PairwiseKernel(gaussian, params.w2, normalization),
            PairwiseKernel(bilateral, params.w1, normalization),
        ]
        self = cls.__new__(cls)
        flat = unary.flatten(2)
        self._build(flat, check_kernels(flat, kernels), unary.shape, KERNEL_NAMES)
        return self

    def _build(self, unary, kernels: list[PairwiseKernel], shape, names=None) -> None:
        self._shape, self._dtype = torch.Size(shape), unary.dtype
        self._images = list(
            native_images(
                unary,
                [k.features for k in kernels],
                [k.compatibility for k in kernels],
                [NORMALIZATIONS[k.normalization] for k in kernels],
                names,
            )
        )

    @property
    def num_vertices(self) -> list[list[int]]:
        """Vertices of the lattice of each kernel, for each image."""
        return [[image.num_vertices(k) for k in range(image.num_kernels)] for image in self._images]

    def inference(self, iterations: int) -> torch.Tensor:
        """Q after so many iterations from the start."""
        check_iterations(iterations)
        q = torch.empty(self._shape, dtype=self._dtype, device="cpu")
        for image, marginals in zip(self._images, q, strict=True):
            image.inference(marginals.data_ptr(), iterations)
        return q

    def start(self) -> torch.Tensor:
        """Q = softmax(-U), before the first iteration."""
        return self.inference(0)

    def step(self, q: torch.Tensor) -> torch.Tensor:
        """One mean field update of Q, in a new tensor."""
        q, updated = self._check(q), torch.empty(self._shape, dtype=self._dtype, device="cpu")
        for image, before, after in zip(self._images, q, updated, strict=True):
            image.step(before.data_ptr(), after.data_ptr())
        return updated

    def kl_divergence(self, q: torch.Tensor) -> torch.Tensor:
        """KL(Q || P) of each image up to the constant log Z, (B,) float64; falls as Q converges."""
        q = self._check(q)
        values = [
            image.kl_divergence(one.data_ptr()) for image, one in zip(self._images, q, strict=True)
        ]
        return torch.tensor(values, dtype=torch.float64)

    def _check(self, q: torch.Tensor) -> torch.Tensor:
        check_tensor("q", q, dtypes=(self._dtype,))
        if q.shape != self._shape or q.device.type != "cpu":
            raise ValueError(
                f"q: expected shape {tuple(self._shape)} on the CPU, got {tuple(q.shape)} "
                f"on {q.device}"
            )
        return q.detach().contiguous()


def _check_cpu(unary: torch.Tensor) -> None:
    if unary.device.type != "cpu":
        raise RuntimeError(
            f"MeanField: got a unary on {unary.device}, runs on the CPU; move it with .cpu()"
        )
