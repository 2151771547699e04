"""A net's probabilities held to the CRF's marginals of them (SEC and DSRG)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .._native import check_same_device, check_tensor, widen
from ..ops._dense_crf_inputs import ImageRange, check_channels_first
from ..ops._mean_field_checks import check_iterations
from ..ops.crf_params import CRFParams, check_params, finite_number
from ..ops.dense_crf import dense_crf
from ..ops.pairwise_features import check_no_gradient

SEC_PARAMS = CRFParams(10, 80 / 12, 13, 3, 3 / 12)
"""Those of SEC, for maps of 41 x 41 pixels of crops of 321 x 321."""


class ConstrainToBoundaryLoss(nn.Module):
    """KL(Q || P) of the CRF's marginals Q to the net's probabilities P, a mean over the pixels.

    The third term of Kolesnikov and Lampert, "Seed, Expand and Constrain: Three Principles for
    Weakly-Supervised Image Segmentation", ECCV 2016, section 3.4, and the boundary loss of Huang et
    al., "Weakly-Supervised Semantic Segmentation Network with Deep Seeded Region Growing", CVPR
    2018. Q is `dense_crf` of P and the image, at the resolution of the score map, on the tensors'
    device, in every step anew; it is a target, without gradient, so that the gradient with respect
    to the scores is (P - Q) over the number of pixels.

    The defaults are those of SEC's code, which calls the CRF of Kraehenbuehl with sigmas of 80, 13
    and 3 whose pixels are twelfths, weights 10 and 3, and 10 iterations. What it does besides: it
    has a gradient through the marginals, too, (1 - Q) times theirs, which is that of no function;
    leaves log(Q / P) no lower than log 0.05 and no higher than log 20, where its gradient ends; and
    rounds the smaller image. DSRG's code hands the CRF energies of -P in the place of -log P.

    Args:
        params: of the CRF, the sigmas in pixels of the score map.
        iterations: mean field iterations.
        min_prob: marginals are raised to it, and made to sum to 1 again, as in SEC; 0 leaves them.
        image_range: as of `dense_crf`.

    Shapes:
        image (B, C, H, W), scores (B, L, h, w), roi (B, h, w) -> ().

    Raises:
        TypeError, ValueError: naming the argument; on the CPU also for scores that are NaN or +inf.
            With a score of -inf the divergence is infinite, unless `min_prob` is 0.

    Example:
        >>> boundary = ConstrainToBoundaryLoss()
        >>> loss = seeding_loss + boundary(photos, scores)
    """

    def __init__(
        self,
        params: CRFParams = SEC_PARAMS,
        iterations: int = 10,
        min_prob: float = 1e-4,
        image_range: ImageRange | None = None,
    ) -> None:
        super().__init__()
        check_params(params)
        self.params = params
        self.iterations = check_iterations(iterations)
        self.min_prob = finite_number("min_prob", min_prob)
        if not 0 <= self.min_prob < 1:
            raise ValueError(f"min_prob: expected 0 or more, and less than 1, got {min_prob}")
        self.image_range = image_range

    def forward(
        self, image: torch.Tensor, scores: torch.Tensor, roi: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The loss of a batch.

        Args:
            image: (B, C, H, W), the photographs, of any size: they are made as small as the scores,
                bilinearly with aligned corners, as SEC does. Of values 0..255, or `image_range`.
            scores: (B, L, h, w), before the softmax, float32 or float64; float16 and bfloat16 are
                computed in float32.
            roi: (B, h, w) or (B, 1, h, w): weights of the pixels, 0 where one has no part in the
                mean. The CRF looks at all.

        Returns:
            0-dimensional; float32, or float64 as the scores. 0 where `roi` leaves no pixel.
        """
        scores = _check_scores(scores)
        log_p = scores.log_softmax(1)
        q = self.targets(image, scores)
        # of a marginal of 0, 0 times infinity is 0
        divergence: torch.Tensor = (torch.special.xlogy(q, q) - q * log_p).sum(1)
        if roi is None:
            return divergence.mean()
        weights = _check_roi(roi, scores)
        return (weights * divergence).sum() / weights.sum().clamp_min(torch.finfo(q.dtype).tiny)

    def targets(self, image: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Q (B, L, h, w): the marginals, without gradient, as `forward` takes them."""
        scores = _check_scores(scores).detach()
        q = dense_crf(
            -scores.log_softmax(1),
            _of_size(image, scores),
            self.params,
            iterations=self.iterations,
            image_range=self.image_range,
        )
        if self.min_prob == 0:
            return q
        q = q.clamp_min(self.min_prob)
        return q / q.sum(1, keepdim=True)

    def extra_repr(self) -> str:
        """The arguments that decide what is computed."""
        return f"{self.params}, iterations={self.iterations}, min_prob={self.min_prob}"


def _check_scores(scores: object) -> torch.Tensor:
    floats = torch.float32, torch.float64
    checked = check_tensor("scores", widen(scores), ndim=4, dtypes=floats, layout="(B, L, h, w)")
    if min(checked.shape[1:]) < 1:
        raise ValueError(
            f"scores: expected at least one label and one pixel, got shape {tuple(checked.shape)}"
        )
    return checked


def _check_roi(roi: object, scores: torch.Tensor) -> torch.Tensor:
    roi = check_tensor("roi", roi)
    batch, _, height, width = scores.shape
    if roi.shape not in ((batch, height, width), (batch, 1, height, width)):
        raise ValueError(
            f"roi: expected shape {(batch, height, width)} for scores of shape "
            f"{tuple(scores.shape)}, got {tuple(roi.shape)}"
        )
    check_same_device(scores=scores, roi=roi)
    return roi.detach().view(batch, height, width).to(scores.dtype)


def _of_size(image: object, scores: torch.Tensor) -> torch.Tensor:
    """The image as small as the scores; the same one where it is."""
    image = check_tensor("image", image, ndim=4, layout="(B, C, H, W)")
    check_channels_first("image", image, "scores", scores)
    if image.shape[0] != scores.shape[0]:
        raise ValueError(
            f"image: expected {scores.shape[0]} of them for scores of shape "
            f"{tuple(scores.shape)}, got shape {tuple(image.shape)}"
        )
    check_same_device(image=image, scores=scores)
    check_no_gradient("image", image)
    size = scores.shape[2:]
    if image.shape[2:] == size:
        return image
    if image.dtype != torch.float64:
        image = image.to(torch.float32)
    return F.interpolate(image, size, mode="bilinear", align_corners=True)
