"""What decides the results of a job, and how it is written into records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

import torch

from .. import _C
from ..crf import CRFParams
from ..ops._bridged import check_lattice_kind
from ..ops._large_image import AUTO, check_scale_or_auto, chosen_scale
from ..ops._mean_field_checks import check_iterations, check_normalization
from ..ops.crf_params import check_params
from ..ops.dense_crf import dense_crf

# CRF settings made from the parameters that weights bring, or from None
FromWeights: TypeAlias = "Callable[[CRFParams | None], CRFSettings]"


@dataclass(frozen=True)
class CRFSettings:
    """The CRF and how it is computed; arguments of `dense_crf`, which says what they mean.

    scale: or "auto", see `predict`: `segment` and `refine` scale the CRF of images that are too
    large for it; for `evaluate`, whose figures are those of the CRF itself, it is 1.
    lattice: other than "standard" for `refine` alone, of pictures that are not too large.

    Raises TypeError or ValueError where it cannot be computed so.
    """

    params: CRFParams = field(default_factory=CRFParams)
    iterations: int = 10
    normalization: str = "symmetric"
    scale: float | str = AUTO
    lattice: str = "standard"

    def __post_init__(self) -> None:
        check_params(self.params)
        check_iterations(self.iterations)
        check_normalization(self.normalization)
        check_scale_or_auto(self.scale)
        check_lattice_kind(self.lattice)

    @classmethod
    def of(cls, crf: CRFParams | CRFSettings) -> CRFSettings:
        """Parameters alone are computed as `dense_crf` does by default."""
        return crf if isinstance(crf, CRFSettings) else cls(crf)

    @classmethod
    def chosen(
        cls,
        crf: CRFParams | CRFSettings | FromWeights | str | None,
        found: CRFParams | None,
    ) -> CRFSettings | None:
        """Of the argument `crf` of a job, where `found` are the parameters in the weights."""
        if crf is None:
            return None
        if isinstance(crf, str):
            if crf != "weights":
                raise ValueError(f"`crf`: expected parameters, 'weights' or None, got {crf!r}")
            return cls() if found is None else cls(found)
        chosen = cls.of(crf) if isinstance(crf, CRFParams | CRFSettings) else crf(found)
        if chosen.lattice != "standard":
            raise ValueError(
                f"`crf`: expected lattice 'standard' for a network, got {chosen.lattice!r}, which "
                "`refine` takes"
            )
        return chosen

    def exact(self) -> CRFSettings:
        """With scale 1 where it is "auto"."""
        return replace(self, scale=1.0) if self.scale == AUTO else self

    def how(self) -> dict[str, Any]:
        """Keywords of `dense_crf` and `predict` beside the parameters."""
        return {
            "iterations": self.iterations,
            "normalization": self.normalization,
            "scale": self.scale,
        }

    def refine(self, unary: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Marginals of energies (B, L, H, W) and images (B, 3, H, W)."""
        how = {**self.how(), "scale": self.scale_of(image.shape[-2] * image.shape[-1], image)}
        return dense_crf(unary, image, self.params, lattice=self.lattice, **how)

    def scale_of(self, pixels: int, like: torch.Tensor) -> float:
        """Of an image of so many pixels, on the device of a tensor."""
        return chosen_scale(self.scale, pixels, like)

    def as_record(self) -> dict[str, Any]:
        """As JSON values; nothing of a standard lattice."""
        record = asdict(self)
        if self.lattice == "standard":
            del record["lattice"]
        return record


def check_device(device: str, *, kernels: bool = True) -> None:
    """Raises ValueError or RuntimeError where a job could not run there.

    kernels: whether it needs ours, as the CRF does; a net alone does not.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"`device` {device}: expected cpu, cuda or cuda:N")
    if kind == "cpu":
        return
    if kernels and not _C.has_cuda:
        raise RuntimeError(
            "`device` cuda: this build has no CUDA kernels (build where nvcc is, or use cpu)"
        )
    if not torch.cuda.is_available():
        raise RuntimeError("`device` cuda: torch sees no GPU (see nvidia-smi, or use cpu)")
    index = torch.device(device).index or 0
    if index >= torch.cuda.device_count():
        raise ValueError(
            f"`device` {device}: expected less than {torch.cuda.device_count()}, the GPUs here"
        )
