"""The fully connected CRF as the last layer of a net, trained with it.

Zheng et al., "Conditional Random Fields as Recurrent Neural Networks" (ICCV 2015): each mean field
iteration is a layer, and the gradient of the loss passes through all of them to the scores and to
the CRF's own parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, overload

import torch
from torch import nn

from .._native import autocasts, has_values, widen
from ..ops._bridged import check_lattice_kind
from ..ops._dense_crf_inputs import ImageRange, check_image_range
from ..ops._mean_field_checks import (
    check_algorithm,
    check_iterations,
    check_normalization,
    check_scale,
)
from ..ops.crf_params import CRFParams, Spacing, check_params, check_spacing
from ..ops.dense_crf import Sizes, dense_crf
from ._dense_crf_checks import (
    NAMES,
    as_scores,
    check_kind,
    check_num_labels,
    check_trainable,
)

LEAST_PROBABILITY = 1e-30
"""Of the result: its logarithm is finite, and so is a gradient times a loss scale of up to 1e8."""


class DenseCRF(nn.Module):
    """`dense_crf` on a net's scores, with parameters that can be trained.

    It gives log-probabilities, so it stands where the scores stood: `nll_loss` takes them, and so
    do `cross_entropy` (which leaves them as they are) and `argmax`; `.exp()` are the marginals Q.

    Weights and standard deviations are exp of parameters `log_w1`, `log_sigma_beta`, ...: positive
    whatever the optimiser does, and a step is a share of the value, so that one learning rate suits
    w1 = 4 and sigma_alpha = 67 (with softplus a step would be as many pixels as levels). Adam with
    0.01 changes them by about 1 % an update. Weight decay would pull them to 1: give them none.

    Args:
        params: where to start, all of it numbers; sigmas may be one for each axis or channel, and
            weights that are not trained 0.
        trainable: names among "w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma" and, with
            "matrix", "compatibility". None: w1, w2 and the matrix, as Zheng et al.
        compatibility: "potts", one w1 and one w2; "vector", one of each for every label; "matrix",
            mu (L, L) of equation (3) for both kernels, 1 - I at the start (Potts) and free of
            signs: large mu[l, m] keeps labels l and m apart. Only 1/2 (mu + mu^T) counts.
        num_labels: L; "vector" and "matrix" need it.
        iterations: of the mean field while training; Zheng et al. take 5, with more "gradients
            vanish or explode".
        eval_iterations: after `.eval()`; they take 10.
        normalization, scale, algorithm, lattice, spacing, image_range: as in `dense_crf`; to train
            a sigma, scale is 1.
        device, dtype: of the parameters, a float dtype.

    Shapes:
        scores (B, L, H, W), image (B, C, H, W) -> (B, L, H, W); or one image, volumes, a list of
        images: whatever `dense_crf` takes.

    Raises:
        TypeError, ValueError: naming the argument; on the CPU also for scores that are NaN or
            +inf. A score of -inf excludes its label at that pixel.

    The state dict has `log_w1` and so on for all five, whether trained or not, and `compatibility`
    with "matrix". Under autocast the CRF stays in float32. Everything it keeps for the backward
    pass are its inputs: the iterations are done again there.

    Example:
        >>> crf = DenseCRF(CRFParams.preset("voc-resnet101"), trainable=("w1", "sigma_beta"))
        >>> loss = nll_loss(crf(net(photos), photos), labels, ignore_index=255)
        >>> q = dense_crf(-scores, photo, crf.params)  # the learned numbers, without the layer
    """

    compatibility: nn.Parameter | torch.Tensor | None

    def __init__(
        self,
        params: CRFParams,
        *,
        trainable: Sequence[str] | None = None,
        compatibility: str = "potts",
        num_labels: int | None = None,
        iterations: int = 5,
        eval_iterations: int = 10,
        normalization: str = "symmetric",
        scale: float = 1.0,
        algorithm: str = "lattice",
        lattice: str = "standard",
        spacing: Spacing | None = None,
        image_range: ImageRange | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_params(params)
        self.kind = check_kind(compatibility)
        self.num_labels = check_num_labels(num_labels, compatibility)
        self.trainable = check_trainable(trainable, compatibility)
        self.iterations = check_iterations(iterations)
        self.eval_iterations = check_iterations(eval_iterations, "eval_iterations")
        check_normalization(normalization)
        self.normalization = normalization
        self.scale = check_scale(scale)
        if self.scale < 1 and (sigmas := [n for n in self.trainable if n.startswith("sigma")]):
            raise ValueError(f"scale: expected 1 where {sigmas[0]} is trained, got {scale}")
        check_algorithm(algorithm, self.scale)
        check_lattice_kind(lattice, algorithm)
        self.algorithm, self.lattice = algorithm, lattice
        if spacing is not None:
            check_spacing(spacing, len(spacing) if isinstance(spacing, Sequence) else 2)
        check_image_range(image_range)
        self.spacing, self.image_range = spacing, image_range
        # What is not trained stays the number that it is: on CUDA, a tensor's would be waited for.
        self._numbers: dict[str, float | tuple[float, ...]] = {}
        for name in NAMES:
            self._add(name, getattr(params, name), device, dtype)
        if compatibility != "matrix":
            self.register_parameter("compatibility", None)
            return
        size = self.num_labels or 0
        mu = 1 - torch.eye(size, device=device, dtype=dtype)
        if "compatibility" in self.trainable:
            self.compatibility = nn.Parameter(mu)
        else:
            self.register_buffer("compatibility", mu)

    def _add(
        self, name: str, start: Any, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        """`log_<name>`, a parameter, or a buffer beside its number."""
        if isinstance(start, torch.Tensor):
            raise TypeError(
                f"params.{name}: expected a number to start from, got a tensor (trainable= says "
                "what is learned)"
            )
        is_weight = name.startswith("w")
        if is_weight and start < 0:
            raise ValueError(f"params.{name}: expected 0 or more, got {start}")
        values = start if isinstance(start, tuple) else (start,)
        logs: Any = [math.log(v) if v > 0 else -math.inf for v in values]
        if is_weight and self.kind == "vector":
            logs = logs * (self.num_labels or 0)
        elif not isinstance(start, tuple):
            logs = logs[0]
        of_start = torch.tensor(logs, device=device, dtype=dtype or torch.get_default_dtype())
        if name not in self.trainable:
            self.register_buffer(f"log_{name}", of_start)
            self._numbers[name] = start
        elif start == 0:
            raise ValueError(f"params.{name}: expected more than 0 where it is trained, got 0")
        else:
            self.register_parameter(f"log_{name}", nn.Parameter(of_start))

    @property
    def params(self) -> CRFParams:
        """What `dense_crf` takes, without gradients: numbers, and tensors of many weights.

        Of "vector" w1 and w2 are (L,), of "matrix" (L, L), with the signs of `dense_crf`'s
        compatibilities. Reads the parameters from their device.
        """
        with torch.no_grad():
            values = {n: self._value(n) for n in NAMES}
            for name, value in values.items():
                if isinstance(value, torch.Tensor) and value.ndim == 0:
                    values[name] = float(value)
            return CRFParams(**values)

    @overload
    def forward(
        self, scores: torch.Tensor, image: torch.Tensor, sizes: Sizes | None = ...
    ) -> torch.Tensor: ...
    @overload
    def forward(
        self, scores: Sequence[torch.Tensor], image: Sequence[torch.Tensor], sizes: None = ...
    ) -> list[torch.Tensor]: ...
    def forward(
        self,
        scores: torch.Tensor | Sequence[torch.Tensor],
        image: torch.Tensor | Sequence[torch.Tensor],
        sizes: Sizes | None = None,
    ) -> torch.Tensor | list[torch.Tensor]:
        """Log Q, shaped like the scores.

        scores: a net's, (B, L, H, W) at the image's size, or log-probabilities, or minus the
            energies that `dense_crf` takes: what all labels of a pixel have in common is without
            effect. float32 or float64, or of 16 bits, which become float32. -inf excludes a label.
        image, sizes: as in `dense_crf`.

        Returns float32 or float64, at least log(1e-30) = -69: so also for excluded labels, and
        outside of `sizes`. There the gradient is 0.
        """
        unary: Any
        own_image: Any = image
        if isinstance(scores, Sequence) and not isinstance(scores, str):
            unary = [-as_scores(f"scores[{i}]", one) for i, one in enumerate(scores)]
            kind = scores[0].device.type if scores else "cpu"
            dtype = unary[0].dtype if unary else torch.float32
            labels = None
        else:
            unary = -as_scores("scores", scores)
            kind, dtype = unary.device.type, unary.dtype
            labels = unary.shape[0 if unary.ndim == 3 else 1] if unary.ndim > 2 else None
        if labels == 0:
            raise ValueError(f"scores: expected at least one label, got shape {tuple(unary.shape)}")
        if None not in (labels, self.num_labels) and labels != self.num_labels:
            raise ValueError(
                f"scores: expected {self.num_labels} labels (num_labels), got {labels} of shape "
                f"{tuple(unary.shape)}"
            )
        with _without_autocast(kind):
            q: Any = dense_crf(
                unary,
                own_image,
                self._params(dtype),
                iterations=self.iterations if self.training else self.eval_iterations,
                normalization=self.normalization,
                sizes=sizes,
                scale=self.scale,
                algorithm=self.algorithm,
                lattice=self.lattice,
                spacing=self.spacing,
                image_range=self.image_range,
            )
            if isinstance(q, list):
                return [_log(one) for one in q]
            return _log(q)

    def _params(self, dtype: torch.dtype) -> CRFParams:
        return CRFParams(*(self._value(name, dtype) for name in NAMES))

    def _value(self, name: str, dtype: torch.dtype | None = None) -> Any:
        """As `dense_crf` takes it: a number, or a tensor with its gradient."""
        is_weight = name.startswith("w")
        number = self._numbers.get(name)
        if number is not None and not (is_weight and self.kind != "potts"):
            return number
        log: torch.Tensor = getattr(self, f"log_{name}")
        if name in self.trainable and has_values(log) and not bool(log.isfinite().all()):
            raise ValueError(
                f"log_{name}: expected finite values, got {log.tolist()} (an update with a "
                "gradient that was not finite?)"
            )
        value = widen(log).to(dtype).exp()
        if not is_weight or self.kind == "potts":
            return value
        if self.compatibility is None:
            return -value
        return value * widen(self.compatibility).to(dtype)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        for name in self._numbers:
            log = getattr(self, f"log_{name}").double()
            # six digits: logarithms of float32 do not have more
            values = [float(f"{math.exp(v):.6g}") for v in log.reshape(-1).tolist()]
            if isinstance(self._numbers[name], tuple):
                self._numbers[name] = tuple(values)
            elif values:
                self._numbers[name] = values[0]

    def extra_repr(self) -> str:
        """The parameters as they are now, and what of them is trained."""
        parts = []
        for name in NAMES:
            log: torch.Tensor = getattr(self, f"log_{name}")
            values = [f"{v:.4g}" for v in log.detach().double().exp().reshape(-1).tolist()]
            several = f"({', '.join(values[:3])}{', ...' if len(values) > 3 else ''})"
            parts.append(f"{name}={values[0] if len(values) == 1 else several}")
        parts.append(f"trainable={self.trainable}, compatibility={self.kind}")
        return ", ".join([*parts, f"iterations={self.iterations}/{self.eval_iterations}"])


def _log(q: torch.Tensor) -> torch.Tensor:
    return q.clamp_min(LEAST_PROBABILITY).log()


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    return torch.autocast(device_type, enabled=False) if autocasts(device_type) else nullcontext()
