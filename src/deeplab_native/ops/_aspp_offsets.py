"""Where the filter taps of the head's branches lie, and which of them share a place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

MAX_TAPS = 256  # kMaxAsppTaps of csrc/ops/aspp.h

Pair = tuple[int, int]


class Taps(NamedTuple):
    """The taps of the head's branches in maps of one size, for all callers: not to be changed.

    Attributes:
        rows: row of the matrix of each filter tap, branch after branch; -1 for none.
        offsets: (dy, dx) of each row in pixels, one number after another.
        pairs: the same in pairs.
        of_branch: rows, a list for each branch.
        sources: filter taps that have a row.
    """

    rows: Sequence[int]
    offsets: Sequence[int]
    pairs: tuple[Pair, ...]
    of_branch: Sequence[Sequence[int]]
    sources: int


def merge_taps(
    kernels: Sequence[Sequence[int]], rates: Sequence[Pair], size: Sequence[int]
) -> tuple[list[int], list[Pair]]:
    """(index, offsets): the offset of every tap within a map of this size, each once.

    index: the position in `offsets` of each filter tap, branch after branch, rows of the kernel
    first; -1 for those that reach only padding.
    """
    index: list[int] = []
    position: dict[Pair, int] = {}
    for kernel, rate in zip(kernels, rates, strict=True):
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                dy, dx = (i - kernel[0] // 2) * rate[0], (j - kernel[1] // 2) * rate[1]
                inside = abs(dy) < size[0] and abs(dx) < size[1]
                index.append(position.setdefault((dy, dx), len(position)) if inside else -1)
    return index, list(position)


def taps_of(weights: Sequence[torch.Tensor], rates: Sequence[int], size: Sequence[int]) -> Taps:
    """`merge_taps` of these branches; rates are one number after another."""
    try:
        return _taps_of(tuple([w.shape[2:] for w in weights]), tuple(rates), tuple(size))
    except TypeError:  # a compiler's symbols for sizes have no hash; it must know these
        kernels = tuple((int(w.shape[2]), int(w.shape[3])) for w in weights)
        return _taps_of.__wrapped__(kernels, tuple(map(int, rates)), (size[0], size[1]))


@lru_cache(maxsize=64)
def _taps_of(kernels: tuple[Pair, ...], rates: tuple[int, ...], size: Pair) -> Taps:
    index, offsets = merge_taps(kernels, list(zip(rates[::2], rates[1::2], strict=True)), size)
    if len(offsets) > MAX_TAPS:
        raise ValueError(
            f"weights: expected at most {MAX_TAPS} taps at different offsets, got {len(offsets)}; "
            "add up several calls"
        )
    flat = tuple(d for offset in offsets for d in offset)
    of_branch = tuple(map(tuple, split_index(index, kernels)))
    return Taps(tuple(index), flat, tuple(offsets), of_branch, sum(row >= 0 for row in index))


def split_index(index: Sequence[int], kernels: Iterable[Sequence[int]]) -> Iterator[list[int]]:
    """The part of `index` that belongs to each branch's filter taps."""
    start = 0
    for kernel in kernels:
        yield list(index[start : start + kernel[0] * kernel[1]])
        start += kernel[0] * kernel[1]


@lru_cache(maxsize=64)
def in_order_of_rows(taps: Taps) -> Taps:
    """The same taps in the order of dy, as `bands_of` wants them."""
    order = sorted(range(len(taps.pairs)), key=lambda t: taps.pairs[t])
    place = {t: i for i, t in enumerate(order)} | {-1: -1}
    pairs = tuple(taps.pairs[t] for t in order)
    rows = tuple(place[t] for t in taps.rows)
    of_branch = tuple(tuple(place[t] for t in own) for own in taps.of_branch)
    return Taps(rows, tuple(d for pair in pairs for d in pair), pairs, of_branch, taps.sources)


@lru_cache(maxsize=64)
def bands_of(pairs: tuple[Pair, ...], height: int) -> list[tuple[int, int, int, int]]:
    """(first row, last row, first tap, last tap) of bands of an input's rows; last ones excluded.

    Row r of the input is read by the taps with 0 <= r - dy < height: of taps in the order of dy a
    run, which is the same within a band.
    """
    borders = {0, height} | {dy % height for dy, _ in pairs}
    rows = sorted(borders)
    bands = []
    for first, last in pairwise(rows):
        taps = [t for t, (dy, _) in enumerate(pairs) if 0 <= first - dy < height]
        if taps:
            bands.append((first, last, taps[0], taps[-1] + 1))
    return bands
