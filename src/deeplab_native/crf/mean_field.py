"""Mean field inference that can be watched and steered one iteration at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, SupportsIndex

import torch

from .._native import check_has_memory, check_no_transform, check_tensor, in_memory, widen
from ..ops._bridged import check_bridged, check_bridged_image, check_lattice_kind
from ..ops._dense_crf_batch import features_of
from ..ops._dense_crf_inputs import (
    ImageRange,
    as_batch,
    as_image_dtype,
    as_levels,
    check_image_range,
)
from ..ops._mean_field_checks import (
    NORMALIZATIONS,
    PairwiseKernel,
    check_compatibility,
    check_iterations,
    check_kernels,
    check_normalization,
    check_precision,
    check_unary,
)
from ..ops._mean_fields import mean_fields
from ..ops.crf_params import CRFParams, Spacing, check_params, sigmas_of
from ..ops.mean_field import batch_of
from ..ops.pairwise_features import KERNEL_NAMES, Features, check_image

_WITHOUT_STATE = "deeplab_native.mean_field or dense_crf"


class MeanField:
    """A fully connected CRF over a batch, with its lattices built once.

    Args:
        unary: energies (B, L, N), or (L, N) of one image, float32 or float64 (float16 and bfloat16
            are computed in float32), finite or +inf, as of `dense_crf`.
        kernels: `PairwiseKernel`s (features, compatibility, normalization).
        precision: "single", or "half" as of `dense_crf`.
        lattice: "standard", or "bridged" as of `dense_crf`.

    Every method takes and gives marginals of the unary's shape, dtype and device. For gradients and
    within `torch.func` use `deeplab_native.mean_field` or `dense_crf`. Python threads may share an
    object; on the CPU one at a time computes. On CUDA its lattices belong to the stream that was
    current when it was made: let other streams wait for that one, and keep the object until they
    are done. It holds native memory and cannot be copied or pickled.

    Example:
        >>> crf = MeanField.from_image(unary, image, CRFParams.preset("voc-resnet101"))
        >>> q = crf.start()
        >>> for _ in range(10):
        ...     q = crf.step(q)

    Raises:
        TypeError, ValueError: naming the argument, before any lattice is built.
        RuntimeError: a tensor of a `torch.func` transform.
    """

    def __init__(
        self,
        unary: torch.Tensor,
        kernels: Sequence[PairwiseKernel],
        *,
        precision: str = "single",
        lattice: str = "standard",
    ) -> None:
        unary, alone = batch_of(unary)
        checked = check_kernels(unary, kernels)
        bridged = check_lattice_kind(lattice)
        for m, kernel in enumerate(checked):
            check_bridged(f"kernels[{m}].features", kernel.features.shape[-1], bridged=bridged)
        self._build(
            unary,
            [k.features for k in checked],
            [k.compatibility for k in checked],
            [k.normalization for k in checked],
            unary.shape[1:] if alone else unary.shape,
            alone,
            half=check_precision(precision),
            bridged=bridged,
        )

    @classmethod
    def from_image(
        cls,
        unary: torch.Tensor,
        image: torch.Tensor,
        params: CRFParams,
        *,
        normalization: str = "symmetric",
        precision: str = "single",
        lattice: str = "standard",
        spacing: Spacing | None = None,
        image_range: ImageRange | None = None,
    ) -> MeanField:
        """The CRF of `dense_crf`: unary (B, L, H, W), image (B, C, H, W); shapes stay so.

        Or (L, H, W) and (C, H, W); of volumes (B, L, D, H, W) and (B, C, D, H, W). `image_range`,
        and what is warned of, as there.
        """
        pairs = check_image_range(image_range)
        alone = isinstance(unary, torch.Tensor) and unary.ndim == 3
        unary, image = as_batch(widen(unary), as_image_dtype("image", image, pairs))
        layout = "(B, L, H, W) or (L, H, W), or of volumes (B, L, D, H, W)"
        check_unary(unary, ndim=(4, 5), layout=layout)
        check_image(image, unary)
        check_no_transform("MeanField", _WITHOUT_STATE, image)
        check_params(params)
        check_has_memory("unary", unary)
        image = in_memory(as_levels("image", image, pairs, params.sigma_beta))
        check_normalization(normalization)
        half, bridged = check_precision(precision), check_lattice_kind(lattice)
        check_bridged_image(image, bridged=bridged)
        sigmas = sigmas_of(params, image.shape, spacing)
        self = cls.__new__(cls)
        self._build(
            unary.flatten(2),
            features_of(image, sigmas),
            [
                check_compatibility("params.w2", params.w2, unary),
                check_compatibility("params.w1", params.w1, unary),
            ],
            [normalization] * 2,
            unary.shape[1:] if alone else unary.shape,
            alone,
            KERNEL_NAMES,
            half=half,
            bridged=bridged,
        )
        return self

    def _build(
        self,
        unary: torch.Tensor,
        features: Features,
        compatibilities: Sequence[torch.Tensor],
        normalizations: Sequence[str],
        shape: Sequence[int],
        alone: bool,
        names: Sequence[tuple[str, str]] | None = None,
        *,
        half: bool,
        bridged: bool,
    ) -> None:
        self._shape, self._like = torch.Size(shape), unary.new_empty(0)
        self._flat, self._alone = unary.shape, alone  # (B, L, N)
        tensors = unary, *compatibilities, *(f for f in features if isinstance(f, torch.Tensor))
        check_no_transform("MeanField", _WITHOUT_STATE, *tensors)
        check_has_memory("unary", unary)
        unary = in_memory(unary)
        features = [in_memory(f) if isinstance(f, torch.Tensor) else f for f in features]
        numbers = [NORMALIZATIONS[n] for n in normalizations]
        how = compatibilities, numbers, names
        groups = mean_fields(unary, features, *how, half=half, bridged=bridged)
        self._fields = list(groups)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("MeanField: it holds native memory, and cannot be copied or pickled")

    @property
    def num_vertices(self) -> list[list[int]]:
        """Vertices of the lattice of each kernel, for each image."""
        return [counts for _, field in self._fields for counts in field.num_vertices()]

    def inference(self, iterations: int) -> torch.Tensor:
        """Q after so many iterations from the start."""
        iterations = check_iterations(iterations)
        q = self._like.new_empty(self._flat)
        for images, field in self._fields:
            field.inference(iterations, q[images])
        return q.view(self._shape)

    def start(self) -> torch.Tensor:
        """Q = softmax(-U), before the first iteration."""
        return self.inference(0)

    def step(self, q: torch.Tensor) -> torch.Tensor:
        """One mean field update of Q, in a new tensor."""
        q = self._check(q)
        updated = torch.empty_like(q)
        for images, field in self._fields:
            updated[images] = field.step(q[images])
        return updated.view(self._shape)

    def kl_divergence(self, q: torch.Tensor) -> torch.Tensor:
        """KL(Q || P) of each image up to the constant log Z, (B,) float64; falls as Q converges.

        (), where the unary has no batch dimension.
        """
        q = self._check(q)
        values = q.new_empty(self._flat[0], dtype=torch.float64)
        for images, field in self._fields:
            values[images] = field.kl_divergence(q[images])
        return values[0] if self._alone else values

    def _check(self, q: torch.Tensor) -> torch.Tensor:
        """As (B, L, N), contiguous."""
        check_tensor("q", q, dtypes=(self._like.dtype,))
        check_no_transform("MeanField", _WITHOUT_STATE, q)
        if q.shape != self._shape or q.device != self._like.device:
            raise ValueError(
                f"q: expected shape {tuple(self._shape)} on {self._like.device}, got "
                f"{tuple(q.shape)} on {q.device}"
            )
        return in_memory(q.detach()).contiguous().view(self._flat)
