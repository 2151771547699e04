"""Unary energies of what segmentation networks and people give: scores of four kinds, and labels.

The CRF minimises energies U(l) = -log P(l) and does not see a constant added to all labels of a
pixel. How each kind of scores becomes U, with values x or p of a pixel, one for each of L labels:

    logits          -log softmax(x)
    probabilities   -log p, p clipped at 1e-5 as pydensecrf's `unary_from_softmax` does
    sigmoid         p of each label by itself, so that they need not sum to 1. Of L independent yes
                    or no answers, given that exactly one is yes, P(l) is proportional to
                    p_l prod_{k != l} (1 - p_k), thus to p_l / (1 - p_l): the log-odds
                    log p - log(1 - p) are logits. P(l) is clipped at 1e-5, and p only where
                    float32 ends, so that the best label stays the best
    energies        x itself

One channel is the foreground, of two labels: P(1) = p or 1 / (1 + exp(-x)), P(0) = 1 - P(1); the
same as log-odds against a background of log-odds 0.
"""

from __future__ import annotations

import math
import numbers

import torch
from torch.nn import functional

KINDS = ("auto", "logits", "probabilities", "sigmoid", "energies")
# As people say it; for messages and results
WORDS = {
    "logits": "logits",
    "probabilities": "probabilities",
    "sigmoid": "independent sigmoids",
    "energies": "energies -log p",
}
LEAST_PROBABILITY = 1e-5  # as pydensecrf's unary_from_softmax: a zero would be beyond recall
# How far from 1 the probabilities of a pixel may sum to be recognised: bfloat16 is off by 2e-3
_SUM_TOLERANCE = 5e-3
# and to be believed, where somebody says so: 21 labels of 8 bits are off by 21 * 0.5 / 255
_SAID_TOLERANCE = 5e-2


def energies_from_labels(
    labels: torch.Tensor, num_labels: int, confidence: float, ignore: int = 255
) -> torch.Tensor:
    """Energies of an annotation that is right with probability `confidence`.

    As pydensecrf's `unary_from_labels`, whose `gt_prob` that is: the other labels share what is
    left, and where nothing is known all labels are as likely.

    Args:
        labels: (...), integers 0..num_labels - 1, or `ignore`: unsure.
        num_labels: L. Only labels that occur should be counted (`occurring_labels`): one that is
            nowhere takes from what is left for the others, and cannot win. A single label has
            energies of 0.
        confidence: above 1 / L, where the label would say nothing, and below 1.
        ignore: the value of unsure pixels.

    Returns:
        (L, ...) float32 on the device of `labels`.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    if labels.dtype.is_floating_point or labels.dtype.is_complex:
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if num_labels == 1:
        confidence = 1
    else:
        check_confidence(confidence, num_labels)
    index = labels.long()
    unsure = index == ignore
    known = index[~unsure]
    if known.numel() and not 0 <= int(known.min()) <= int(known.max()) < num_labels:
        wrong = known.min() if known.min() < 0 else known.max()
        raise ValueError(f"labels: expected 0..{num_labels - 1} or {ignore}, got {int(wrong)}")
    other = -math.log((1 - confidence) / (num_labels - 1)) if num_labels > 1 else 0.0
    unary = torch.full((num_labels, *labels.shape), other, device=labels.device)
    unary.scatter_(0, index.masked_fill(unsure, 0)[None], -math.log(confidence))
    return unary.masked_fill_(unsure, math.log(num_labels))


def check_confidence(confidence: float, num_labels: int = 2) -> None:
    """Raises TypeError or ValueError unless labels that are right so often say something."""
    if isinstance(confidence, bool) or not isinstance(confidence, numbers.Real):
        raise TypeError(f"`confidence`: expected a number, got {confidence!r}")
    if not 1 / num_labels < confidence < 1:
        raise ValueError(
            f"`confidence` {confidence}: expected above {1 / num_labels:.3g}, which says nothing "
            f"of {num_labels} labels, and below 1 (0.7 is usual)"
        )


def occurring_labels(labels: torch.Tensor, ignore: int = 255) -> torch.Tensor:
    """The labels that occur, (L,) int64, sorted, without `ignore`."""
    found: torch.Tensor = torch.unique(labels.long())
    return found[found != ignore]


def energies_from(values: torch.Tensor, kind: str, dim: int = 0) -> torch.Tensor:
    """The unary of scores whose kind is known.

    Args:
        values: (L, ...), or the labels in dimension `dim`; one channel is the foreground.
        kind: of `KINDS` but "auto", as `kind_of` says it. Nothing is checked here, nor is a device
            waited for.

    Returns:
        Of the shape of `values`, with two labels for one channel; float32, or float64 for float64.
        +inf where a logit is -inf, or an energy +inf: the label is excluded there.
    """
    x = values if values.dtype == torch.float64 else values.float()
    if kind == "energies":
        return x
    alone = x.shape[dim] == 1
    if kind == "logits":
        if alone:  # -log(1 - sigmoid(x)), -log(sigmoid(x))
            return torch.cat([functional.softplus(x), functional.softplus(-x)], dim)
        return -x.log_softmax(dim)
    if kind == "probabilities" or alone:
        p = torch.cat([1 - x, x], dim) if alone else x
        return -p.clamp(min=LEAST_PROBABILITY).log()
    if kind != "sigmoid":
        raise ValueError(f"`kind` {kind} is unknown (use {', '.join(KINDS)})")
    # 1 - 2^-24 is the largest float32 below 1, and a p of 0 is any small number
    odds = x.clamp(min=1e-30).log() - torch.log1p(-x.clamp(max=1 - 2**-24))
    return -odds.log_softmax(dim).clamp(min=math.log(LEAST_PROBABILITY))


def check_kind(kind: str) -> None:
    """Raises ValueError unless it is one of `KINDS`."""
    if kind not in KINDS:
        raise ValueError(f"`kind` {kind} is unknown (use {', '.join(KINDS)})")


def kind_of(values: torch.Tensor, kind: str = "auto", dim: int = 0) -> str:
    """What scores are; never "auto".

    Args:
        values: (L, ...) floating point, or the labels in dimension `dim`.
        kind: what somebody says they are, which is checked; or "auto", in this order:

            probabilities   all in 0..1, each pixel sums to 1
            energies        none negative, exp(-x) of each pixel sums to 1
            sigmoid         all in 0..1; one channel: the foreground's probability
            logits          some are negative, and they are not near to probabilities; or all are 0

    Raises:
        ValueError: they cannot be what was said; or with "auto" they could be of two kinds, whose
            results would differ: none negative and above 1 (energies that are not normalised, or
            logits after a ReLU); nearly probabilities, also but for pixels that are all 0. The
            message names the choices. Also for NaN, infinities that exclude nothing, and pixels
            with no label left.
    """
    check_kind(kind)
    facts = _Facts(values, dim)
    facts.check_finite(kind)
    return facts.recognised() if kind == "auto" else facts.confirmed(kind)


class _Facts:
    """Sums and bounds, one label after the other: scores may fill most of the memory."""

    def __init__(self, values: torch.Tensor, dim: int) -> None:
        planes = values.unbind(dim)
        if not planes or not planes[0].numel():
            raise ValueError(f"scores: expected some labels and pixels, got {tuple(values.shape)}")
        self.channels = len(planes)
        self.least, self.most = math.inf, -math.inf
        self.unequal = 0  # how many are NaN
        total = torch.zeros_like(planes[0], dtype=torch.float64)
        likelihood = torch.zeros_like(total)  # of exp(-x), what energies of probabilities have
        low, high = planes[0].float(), planes[0].float()
        for plane in planes:
            plane = plane.float()
            self.unequal += int(torch.isnan(plane).sum())
            least, most = plane.aminmax()
            self.least, self.most = min(self.least, float(least)), max(self.most, float(most))
            total += plane
            likelihood += torch.exp(-plane)
            low, high = torch.minimum(low, plane), torch.maximum(high, plane)
        self.empty = (total == 0) & (high == 0) & (low == 0)  # as the border of a padded map
        self.off = _distance_from_one(total.masked_fill_(self.empty, 1))
        self.likelihood_off = _distance_from_one(likelihood)
        self.excluded_by_logits = bool((high == -math.inf).any())  # all labels of a pixel
        self.excluded_by_energies = bool((low == math.inf).any())

    @property
    def span(self) -> str:
        return f"scores from {self.least:.4g} to {self.most:.4g}"

    @property
    def _are_energies(self) -> bool:
        return self.least >= -_SUM_TOLERANCE and self.likelihood_off <= _SUM_TOLERANCE

    def check_finite(self, kind: str) -> None:
        if self.unequal:
            raise ValueError(f"scores: {self.unequal} of them are NaN (mend them)")
        above = self.most == math.inf and not (
            kind == "energies" or (kind == "auto" and self._are_energies)
        )
        below = self.least == -math.inf and kind not in ("auto", "logits")
        if above or below or (self.most == math.inf and self.least == -math.inf):
            raise ValueError(
                f"{self.span}: infinite ones that exclude no label (float16 ends at 65504: save "
                "float32; energies of +inf exclude a label with `kind` energies, logits of -inf do)"
            )
        if self.excluded_by_energies or self.excluded_by_logits:
            raise ValueError("scores: a pixel has no label left, all are infinite (leave it one)")

    def recognised(self) -> str:
        if self.channels == 1:
            return self._recognised_alone()
        if self.least == self.most == 0:
            return "logits"  # nothing is said, whatever they are
        within = self.least >= 0 and self.most <= 1 + _SUM_TOLERANCE
        empty = int(self.empty.sum())
        if within and self.off <= _SUM_TOLERANCE and not empty:
            return "probabilities"
        if self._are_energies:
            return "energies"
        if self.off <= _SAID_TOLERANCE and self._near():
            but = f", but for {empty} pixels of zeros," if empty else ""
            raise ValueError(
                f"{self.span}, up to {self.off:.2g} away from a sum of 1{but} could be "
                "probabilities, rounded, resampled or padded, or something else (say it by `kind` "
                "probabilities, sigmoid or logits)"
            )
        if within:
            return "sigmoid"
        if self.least >= 0:
            raise ValueError(
                f"{self.span}, none below 0, could be energies (least is best) or logits (most is "
                "best), and the labels would be others (say it by `kind` energies or logits)"
            )
        return "logits"

    def _near(self) -> bool:
        """In 0..1, or as far outside as cubic resampling takes probabilities."""
        return self.least >= -0.2 and self.most <= 1.2

    def _recognised_alone(self) -> str:
        if self.least >= 0 and self.most <= 1 + _SUM_TOLERANCE:
            return "sigmoid"
        if self.least >= 0:
            raise ValueError(
                f"{self.span} of a single channel are no foreground probabilities in 0..1 (divide "
                "by their largest possible value; or say what they are by `kind` logits)"
            )
        return "logits"

    def confirmed(self, kind: str) -> str:
        if kind in ("probabilities", "sigmoid"):
            tolerance = _SAID_TOLERANCE if kind == "probabilities" else _SUM_TOLERANCE
            off = self.off if kind == "probabilities" and self.channels > 1 else 0.0
            outside = self.least < -tolerance or self.most > 1 + tolerance
            if outside or off > tolerance:
                sums = f" whose sums are up to {off:.4g} away from 1" if off else ""
                other = "logits or energies" if outside else "sigmoid, logits or energies"
                raise ValueError(f"{self.span}{sums} are no {WORDS[kind]} (use `kind` {other})")
        if kind == "energies" and self.channels == 1:
            raise ValueError(
                "scores: energies of a single channel (give those of background and foreground)"
            )
        return kind


def _distance_from_one(sums: torch.Tensor) -> float:
    return float((sums - 1).abs().max())
