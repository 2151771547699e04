"""Every public op and the drop-in with made-up arguments: some examples of each, always the same.

`python -m trust.fuzz_ops` tries as many more as one likes, others each time.
"""

import ctypes
import itertools
import json
import time

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis")

from trust import fuzz_ops
from trust.properties import every, progress
from trust.properties.contract import Expected, Property, check
from trust.properties.specs import Array, Same, Tensor

EXAMPLES = 30


@pytest.mark.parametrize("name", every.NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_property(name, set_threads):
    set_threads(1)
    every.run(name, 10 if name == every.MACHINE else EXAMPLES)


def test_every_public_name_has_a_property():
    missing = every.public_names() - every.covered() - set(every.EXEMPT)
    assert not missing, f"no property in trust/properties for {sorted(missing)}"
    assert set(every.EXEMPT) <= every.public_names()


def doubling(call, reference=lambda x: [Expected(x.double() * 2)]):
    return Property("doubling", ("doubling",), call, None, reference)


CALLS = itertools.count()


FAULTS = {
    "written to": lambda x: x.mul_(2),
    "shares memory": lambda x: x[:0].new_empty(0).set_(x.untyped_storage()),
    "off by": lambda x: x * 2.001,
    "another result": lambda x: x * 2 + next(CALLS),
    "not finite": lambda x: x * 2 + torch.inf,
    "valid arguments were refused": lambda x: x.no_such_method(),
}


@pytest.mark.parametrize("complaint", FAULTS)
def test_a_broken_promise_is_found(complaint, set_threads):
    set_threads(1)
    given = {"x": Tensor((3,))}
    check(doubling(lambda x: x * 2), given, usual=True)
    with pytest.raises(AssertionError, match=complaint):
        check(doubling(FAULTS[complaint]), given, usual=True)


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (RuntimeError("x: deep inside"), "not documented"),
        (ValueError("expected something else"), "names no argument"),
        (ValueError("maximum"), "names no argument"),
    ],
)
def test_a_bad_error_is_found(error, complaint, set_threads):
    set_threads(1)

    def refuse(x):
        raise error

    with pytest.raises(AssertionError, match=complaint):
        check(doubling(refuse), {"x": 2**63}, usual=False)


@pytest.mark.parametrize("layout", ["permuted", "channels_last", "sliced", "offset"])
def test_layouts_have_the_same_values(layout):
    plain, other = (Tensor((2, 3, 4, 5), layout=how).make() for how in ("contiguous", layout))
    assert torch.equal(plain, other)
    assert plain.stride() != other.stride() or other.storage_offset() > 0


@pytest.mark.parametrize("layout", ["F", "sliced", "reversed", "misaligned", "offset"])
def test_layouts_of_arrays_have_the_same_values(layout):
    plain, other = (Array((3, 4), layout=how, byteorder=">").make() for how in ("C", layout))
    np.testing.assert_array_equal(plain, other)
    assert not other.dtype.isnative
    assert (layout == "misaligned") != other.flags.aligned


def test_a_view_of_another_argument():
    from trust.properties.specs import made

    given = made({"a": Same("b", (2, 2)), "b": Tensor((2, 3)), "c": Same("b")})
    assert given["c"] is given["b"] and list(given) == ["a", "b", "c"]
    assert given["a"].data_ptr() == given["b"].data_ptr()


def crashing(name, examples, seconds, seed, said):
    progress.to(str(said))
    progress.now(name, {"x": 9})
    ctypes.string_at(0)


def hanging(name, examples, seconds, seed, said):
    progress.to(str(said))
    progress.now(name, {"x": 9})
    time.sleep(600)


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("work", [crashing, hanging])
def test_a_crash_is_reported_with_its_example(work, monkeypatch):
    monkeypatch.setattr(fuzz_ops, "HANG", 3.0)
    found = fuzz_ops.supervise("aspp", 10, 60, 0, work=work)
    assert found["failure"].startswith(work.__name__.replace("ing", ": aspp"))
    assert "'x': 9" in found["failure"]
    figures = fuzz_ops.summary({"aspp": found}, 0, False)
    assert figures["failures"] == figures["crashes"] + figures["hangs"] == 1
    assert figures["executions"] == 1


@pytest.mark.usefixtures("quick_workers")
def test_the_command(capsys, monkeypatch):
    recorded = {}
    monkeypatch.setattr(fuzz_ops, "record", lambda name, figures, **how: recorded.update(figures))
    names = ["space_to_batch", every.MACHINE]
    assert fuzz_ops.main([*names, "--examples", "5", "--seed", "1"]) == 0
    assert recorded["properties"] == 2 and recorded["failures"] == 0
    assert recorded["executions"] > 10
    json.dumps(recorded)
    with pytest.raises(SystemExit):
        fuzz_ops.main(["no_such_op"])
    assert "no property" in capsys.readouterr().err
