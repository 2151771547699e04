"""NaN, infinities, the largest and the smallest numbers, and nothing at all, in every op."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from . import ops, pictures
from .bits import same_bits
from .cases import SMALL, Case, Size, Tensors, batch_of, drawing, of_image, of_size, results

VALUES = {
    "NaN": math.nan,
    "+inf": math.inf,
    "-inf": -math.inf,
    "largest": torch.finfo(torch.float32).max,
    "denormal": 1e-40,
}
CASES = [*ops.CASES, *(c for c in pictures.CASES if c.takes_scores)]
BATCH, BAD = 3, 1  # images, and which of them has the value
RAISES, NAN, FINITE, INFINITE = "error", "NaN", "finite", "infinite"
NOT_FINITE = "NaN or infinite"
OVERFLOW = "no error"  # sums of the largest numbers may be infinite, and their difference NaN


class Found(NamedTuple):
    """What one bad number of one image did.

    outcome: "error"; or of the image's own results "NaN", "infinite" or "finite". others: whether
    the other images' results kept their bits. like_torch: whether the same numbers are not finite
    as with torch's own operators; None where there are none.
    """

    outcome: str
    others: bool
    like_torch: bool | None = None
    message: str = ""


def with_float_images(tensors: Tensors) -> Tensors:
    return {k: t.float() if k == "image" else t for k, t in tensors.items()}


def given_tensors(case: Case, size: Size) -> Tensors:
    images = range(BATCH if case.batches else 1)
    tensors = batch_of(case, of_size(case, size), torch.float32, list(images))
    return tensors if case.takes_scores else with_float_images(tensors)


def outcome_of(tensors: Tensors) -> str:
    if any(t.isnan().any() for t in tensors.values()):
        return NAN
    return INFINITE if any(t.isinf().any() for t in tensors.values()) else FINITE


def places(case: Case, tensors: Tensors) -> list[str]:
    """Tensors of the images that take floating-point numbers."""
    names = ("input", "features", "image")
    return [k for k in names if k in tensors and tensors[k].is_floating_point()]


def place_in(shape: torch.Size) -> tuple[int, ...]:
    """In the middle, where a map of every second pixel has one, too."""
    return (*(0 for _ in shape[:-2]), *(n // 4 * 2 for n in shape[-2:]))


def one_value(case: Case, size: Size, where: str, value: float) -> Found:
    tensors = given_tensors(case, size)
    own = of_size(case, size)
    expected = results(case, tensors)
    bad = BAD if case.batches else 0
    spoiled = {k: t.clone() for k, t in tensors.items()}
    spoiled[where][bad][place_in(spoiled[where][bad].shape)] = value
    try:
        found = results(case, spoiled)
    except (ValueError, TypeError) as error:
        return Found(RAISES, True, message=str(error))
    count = range(BATCH if case.batches else 1)
    others = all(
        same_bits(of_image(case, found, i, own)[k], of_image(case, expected, i, own)[k])
        for i in count
        if i != bad
        for k in of_image(case, found, i, own)
    )
    like_torch = None
    if case.peer is not None:
        theirs = results(case, spoiled, case.peer)
        like_torch = torch.equal(found["out"].isfinite(), theirs["out"].isfinite())
    mine = of_image(case, found, bad, own) if case.batches else found
    return Found(outcome_of(mine), others, like_torch)


def bad_gradient(case: Case, size: Size) -> bool:
    """Whether a NaN that comes back for one image stays out of the others' gradients."""
    tensors = given_tensors(case, size)

    def spoiled(given: Tensors) -> torch.Tensor:
        out = case.call(given)
        factor = torch.ones_like(out)
        factor[BAD].view(-1)[0] = math.nan
        return out * factor

    found, expected = results(case, tensors, spoiled), results(case, tensors)
    own = of_size(case, size)
    return all(
        same_bits(of_image(case, found, i, own)[k], of_image(case, expected, i, own)[k])
        for i in range(BATCH)
        if i != BAD
        for k in of_image(case, found, i, own)
    )


def empty_batch(case: Case, size: Size) -> str:
    """Of no image: "empty", a result of none, or the error's message."""
    tensors = {k: t[:0] if _of_images(case, k) else t for k, t in given_tensors(case, size).items()}
    try:
        found = results(case, tensors)
    except (ValueError, RuntimeError) as error:
        return str(error)
    return "empty" if found["out"].numel() == 0 else f"{tuple(found['out'].shape)}"


def _of_images(case: Case, name: str) -> bool:
    return name in case.image(drawing(0), SMALL)


_PASSED_ON = {NAN: NAN, "+inf": INFINITE, "-inf": INFINITE, "largest": OVERFLOW}
_NAN = {NAN: NAN, "+inf": NOT_FINITE, "-inf": NOT_FINITE, "largest": OVERFLOW}
_CHECKED = {NAN: RAISES, "+inf": RAISES, "-inf": RAISES, "largest": RAISES}
_ENERGIES = {NAN: RAISES, "+inf": FINITE, "-inf": RAISES, "largest": FINITE}
_SCORES = {NAN: RAISES, "+inf": RAISES, "-inf": FINITE, "largest": FINITE}
# by op and argument; of several that fit the first
POLICY: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("gauss_transform", "features", {**_CHECKED, "largest": FINITE}),
    ('dense_crf, algorithm="exact"', "image", {**_CHECKED, "largest": FINITE}),
    ('mean_field, algorithm="exact"', "image", {**_CHECKED, "largest": FINITE}),
    ("", "image", _CHECKED),
    ("", "features", _CHECKED),
    ("upsample_unary", "input", _NAN),
    ("permutohedral_filter", "input", _NAN),
    ("random_walk", "input", _NAN),
    ("gauss_transform", "input", _NAN),
    ("dense_crf_loss", "input", _NAN),
    ("layers.DenseCRF", "input", _SCORES),
    ("refine", "input", _SCORES),
    ("pydensecrf", "input", _ENERGIES),
    ("layers.ConstrainToBoundaryLoss", "input", {**_SCORES, "-inf": INFINITE}),
    ("models.score_map_loss", "input", {**_NAN, "-inf": INFINITE}),
    ("dense_crf", "input", _ENERGIES),
    ("mean_field", "input", _ENERGIES),
    ("MeanField", "input", _ENERGIES),
    ("", "input", _PASSED_ON),
)


def policy(case: Case, where: str, value: str) -> str:
    """What is to come of one such number in this argument."""
    fits = (p for name, argument, p in POLICY if case.name.startswith(name) and argument == where)
    return next(fits).get(value, FINITE)


def measure(
    size: Size, cases: list[Case] = CASES, values: dict[str, float] = VALUES
) -> Iterator[tuple[Case, str, str, Found]]:
    for case in cases:
        for where in places(case, given_tensors(case, size)):
            for name, value in values.items():
                yield case, where, name, one_value(case, size, where, value)


def flushing(case: Case, size: Size, change: Callable[[bool], object]) -> bool:
    """Whether ordinary numbers give the same bits while denormal ones are flushed to zero."""
    tensors = given_tensors(case, size)
    expected = results(case, tensors)
    change(True)
    try:
        found = results(case, tensors)
    finally:
        change(False)
    return all(same_bits(found[k], expected[k]) for k in expected)


def broken(case: Case, where: str, value: str, found: Found) -> list[str]:
    wrong = []
    wanted = policy(case, where, value)
    allowed = {NOT_FINITE: (NAN, INFINITE), OVERFLOW: (NAN, INFINITE, FINITE)}
    if found.outcome not in allowed.get(wanted, (wanted,)):
        wrong.append(f"{found.outcome}, and not {wanted}")
    if not found.others:
        wrong.append("reaches other images")
    if found.like_torch is False:
        wrong.append("elsewhere than with torch")
    return wrong


def broken_besides(case: Case, size: Size) -> list[str]:
    wrong = []
    if case.batches:
        if not bad_gradient(case, size):
            wrong.append("a gradient reaches other images")
        if empty_batch(case, size) != "empty":
            wrong.append("no image is no batch")
    if not flushing(case, size, torch.set_flush_denormal):
        wrong.append("flushing changes ordinary numbers")
    return wrong
