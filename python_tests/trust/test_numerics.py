"""Bits, errors, instruction sets and special values of every op, at small sizes.

`python -m trust.numerics` does the same at larger ones and has all conditions.
"""

from __future__ import annotations

import math
import types

import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C
from trust.numerics import bits, error, isa, page, special
from trust.numerics.cases import SMALL, Case

pytestmark = pytest.mark.unsanitized  # kernels that other tests run, too
PROMISED = [
    c
    for c in bits.CASES
    if c.name
    in (
        "atrous_col2im",
        "atrous_im2col",
        "space_to_batch",
        "batch_to_space",
        "upsample_unary",
        "gauss_transform",
    )
]
QUICK = [c for c in bits.CASES if not c.all_pairs and not c.nets]


@pytest.fixture(autouse=True)
def one_thread(set_threads):
    set_threads(1)


def test_every_public_op_has_a_case():
    functions = {n for n in dn._HOMES if isinstance(getattr(dn, n), types.FunctionType)}
    elsewhere = {"set_algorithm", "set_output_stride"}  # compute nothing
    classes = {"MeanField", "layers.ConstrainToBoundaryLoss", "layers.DenseCRF"}
    named = {case.name.partition(",")[0] for case in bits.CASES}
    assert functions - elsewhere | classes <= named
    assert len({case.name for case in bits.CASES}) == len(bits.CASES)


@pytest.mark.parametrize("case", QUICK, ids=str)
def test_bits(case: Case):
    of = bits.Bits(case, torch.float32, SMALL, batch=2)
    row = {"run": of.run(), "layout": of.layout(), "alignment": of.alignment()}
    row["batch"] = of.in_batches((2,))
    assert bits.broken(case, torch.float32, row) == []


@pytest.mark.parametrize("case", PROMISED, ids=str)
def test_any_number_of_threads(case: Case):
    row = {"threads": bits.Bits(case, torch.float32, SMALL, batch=2).threads()}
    assert row["threads"] == bits.Difference()


def test_a_difference_is_found():
    one = {"out": torch.tensor([1.0, 2.0]), "input": torch.tensor([0.0])}
    assert bits.difference(one, one) == (0, 0)
    other = {"out": torch.tensor([1.0, 2.5]), "input": torch.tensor([-0.0])}
    found = bits.difference(other, one)
    assert found.out == 0.25 and 0 < found.gradients < 1e-300
    (case,) = (c for c in bits.CASES if c.name == "upsample_unary")
    assert bits.broken(case, torch.float32, {"threads": found}) == ["threads"]
    (case,) = (c for c in bits.CASES if c.name == "random_walk")
    assert bits.broken(case, torch.float32, {"threads": bits.Difference(1e-7, 0)}) == []
    assert bits.broken(case, torch.float32, {"threads": bits.DIFFERENT}) == ["threads"]


@pytest.mark.parametrize("case", [c for c in error.cases_with_error() if c in QUICK], ids=str)
def test_errors(case: Case):
    for kind in error.kinds_of(case)[:2]:
        row = error.measure_one(case, SMALL, torch.float32, kind)
        assert error.broken(case, torch.float32, kind, row) == []
        row["ours"]["out"] = error.Error(math.nan, 0, 0)
        assert error.broken(case, torch.float32, kind, row) == ["out"]


@pytest.mark.parametrize("name", ["aspp", "random_walk", "layers.ConstrainToBoundaryLoss"])
def test_instruction_sets(name: str):
    (case,) = (c for c in bits.CASES if c.name == name)
    before = _C.isa()
    row = isa.measure_one(case, SMALL, torch.float32)
    assert list(row) == _C.available_isas()[::-1] and _C.isa() == before
    assert isa.out_of_gates(case, torch.float32, row) == []


@pytest.mark.filterwarnings("ignore:image:UserWarning")  # with a value that no image has
@pytest.mark.parametrize("case", [c for c in special.CASES if c in QUICK], ids=str)
def test_special_values(case: Case):
    for where in special.places(case, special.given_tensors(case, SMALL)):
        for name in ("NaN", "+inf", "denormal"):
            found = special.one_value(case, SMALL, where, special.VALUES[name])
            assert special.broken(case, where, name, found) == []
    assert special.broken(case, where, "NaN", special.Found("finite", False, False)) != []


@pytest.mark.parametrize("case", [c for c in special.CASES if c in QUICK and c.batches], ids=str)
def test_gradients_that_are_nan(case: Case):
    assert special.bad_gradient(case, SMALL)
    assert special.empty_batch(case, SMALL) == "empty"


def test_the_page_is_what_was_recorded():
    text = page.PAGE.read_text()
    assert {name for _, name in page.parts(text)} == page.TABLES.keys()
    assert page.filled(text) == text
    for path in page.RESULTS.glob("numerics_*.json"):
        content = page.read(path.stem.removeprefix("numerics_"))
        assert content["passed"] and content["figures"]["broken"] == 0
        assert not content["commit"].endswith("-dirty") and content["figures"]["size"] == "large"
