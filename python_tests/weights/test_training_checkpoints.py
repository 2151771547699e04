"""Checkpoints of training scripts: a state dict beside objects of any class; none is made."""

import collections
import datetime
import pickle
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deeplab_native import weights
from deeplab_native.weights.pickles import DamagedError, Opaque, Program
from deeplab_native.weights.state_dict import read_pickled
from python_tests.weights.test_weights import Attack, SmallNet, same

FORMATS = pytest.mark.parametrize(
    "how",
    [
        {},
        {"pickle_protocol": 4},
        {"_use_new_zipfile_serialization": False},
        {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
    ],
    ids=["zip", "zip, protocol 4", "before zip", "before zip, protocol 4"],
)


class Config(dict):
    """As of many a project: a dict with attributes."""

    def __init__(self, **items):
        super().__init__(items)
        self.frozen = True


def net():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 2, 1)))
    made[1].register_buffer("cache", torch.zeros(2), persistent=False)
    return made


def optimizer_state(made):
    optimizer = torch.optim.Adam(made.parameters())
    made(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


BESIDE = {
    "args": Namespace(lr=0.1, root=Path("photos"), started=datetime.datetime(2026, 1, 1)),
    "best": np.float64(0.7),
    "iou": np.arange(3.0),
    "rng": np.random.RandomState(0).get_state(),
    "torch_rng": torch.get_rng_state(),
    "took": datetime.timedelta(1),
    "log": collections.defaultdict(list, loss=[1.0, 2.0]),
    "counts": collections.Counter("abca"),
    "seen": {1, 2},
    "frozen": frozenset("a"),
    "complex": 1j,
    "dtype": torch.float16,
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "config": Config(a=1),
    "hyper_parameters": collections.OrderedDict(config=Config(a=(1, (2, 3)))),
    "class": Config,
    "bytes": b"abc",
    "number": 10**400,
}


@FORMATS
@pytest.mark.parametrize("name", [*BESIDE, "all"])
def test_state_dict_beside(tmp_path, how, name):
    made = net()
    beside = BESIDE if name == "all" else {name: BESIDE[name]}
    optimizer = optimizer_state(made)
    content = {"epoch": 3, "state_dict": made.state_dict(), "optimizer": optimizer, **beside}
    torch.save(content, tmp_path / "last.ckpt", **how)
    assert same(read_pickled(tmp_path / "last.ckpt"), made.state_dict())


@FORMATS
@pytest.mark.parametrize("wrapper", [None, "model", "net"])
@pytest.mark.parametrize("parallel", [False, True])
def test_whole_modules(tmp_path, how, wrapper, parallel):
    made = net()
    whole = nn.DataParallel(made) if parallel else made
    content = whole if wrapper is None else {wrapper: whole, **BESIDE}
    torch.save(content, tmp_path / "net.pth", **how)
    found = read_pickled(tmp_path / "net.pth")
    assert same(found, whole.state_dict())
    assert all(type(value) is torch.Tensor for value in found.values())


@FORMATS
def test_views_and_shared_storages(tmp_path, how):
    whole = torch.arange(24.0).reshape(4, 6)
    state = {
        "a": whole,
        "b": whole.t()[1:3],
        "c": whole[2:].double(),
        "d": nn.Parameter(whole[:, 2]),
    }
    state |= {"e": torch.zeros(0, 3), "f": torch.tensor(7), "g": torch.ones(2).bfloat16()}
    state |= {"h": torch.tensor([True, False]), "i": torch.tensor([1, 2], dtype=torch.uint8)}
    torch.save({"state_dict": state, **BESIDE}, tmp_path / "net.pth", **how)
    found = read_pickled(tmp_path / "net.pth")
    assert same(found, state)
    assert {k: v.dtype for k, v in found.items()} == {k: v.dtype for k, v in state.items()}


def test_loads_into_a_net(tmp_path):
    trained, other = SmallNet(0), SmallNet(1)
    keys = {f"module.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"args": BESIDE["args"], "model": keys, "params": {"lr": 1}}, tmp_path / "net.pth")
    weights.load(other, tmp_path / "net.pth")
    assert same(other.state_dict(), trained.state_dict())


def test_classes_that_are_not_here(tmp_path):
    """As in a file of somebody's project; nothing is imported to read it."""
    code = (
        "import sys, types, torch\n"
        "module = sys.modules['their_project'] = types.ModuleType('their_project')\n"
        "exec('class Config: pass', module.__dict__)\n"
        "module.Config.__module__ = 'their_project'\n"
        "config = module.Config(); config.lr = 1\n"
        "content = {'cfg': config, 'state_dict': {'w': torch.ones(2)}}\n"
        f"torch.save(content, {str(tmp_path / 'x')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert same(read_pickled(tmp_path / "x"), {"w": torch.ones(2)})
    assert "their_project" not in sys.modules


@FORMATS
def test_nothing_runs(tmp_path, how):
    attack = Attack(tmp_path / "attacked")
    good = {"w": torch.ones(2)}
    torch.save({"state_dict": good, "args": attack, "more": [attack]}, tmp_path / "x.pth", **how)
    assert same(read_pickled(tmp_path / "x.pth"), good)
    torch.save({"state_dict": good | {"a": attack}}, tmp_path / "x.pth", **how)
    with pytest.raises(ValueError, match=r"got \w+\.mkdir at 'a' at 'state_dict'"):
        read_pickled(tmp_path / "x.pth")
    torch.save(attack, tmp_path / "x.pth", **how)
    with pytest.raises(ValueError, match=r"expected a state dict, got .*mkdir .save the net"):
        read_pickled(tmp_path / "x.pth")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Config(), r"expected a state dict, got .*\.Config \(save the net's state_dict"),
        ({"args": Namespace(a=1)}, "got argparse.Namespace at 'args' .save the net's state_dict"),
        ({"state_dict": {"w": np.float64(1)}}, "got numpy.* at 'w' at 'state_dict'"),
        ({(1, 2): torch.ones(1), "a": Namespace()}, "got Tensor at a key of type a key"),
        (
            {"w": torch.ones(2).to_sparse(), "a": Namespace()},
            "got a tensor that torch.save did not write, or of a kind without plain values, at 'w'",
        ),
    ],
)
def test_what_is_in_the_way_is_named(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=message) as error:
        read_pickled(tmp_path / "x.pth")
    assert str(tmp_path / "x.pth") in str(error.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_all_protocols(tmp_path, protocol):
    """Written by pickle itself: what can be named is; tensors are not where torch puts them."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"w": torch.ones(2)}, protocol))
    with pytest.raises(ValueError, match=r"no state dict of plain tensors.* did not write"):
        read_pickled(tmp_path / "x.pkl")
    values = {"a": [1, 2.5, None, True, "ä\n", b"b", (1, 2, 3), {}], "b": (1, (2,), ())}
    (tmp_path / "y").write_bytes(pickle.dumps(values, protocol))
    with open(tmp_path / "y", "rb") as file:
        found = Program().read(file)
    if protocol < 3:  # bytes are a call there
        assert isinstance(found["a"].pop(5), Opaque)
        values["a"].pop(5)
    assert found == values


def nested(depth):
    """A tuple of two of the same, and so on: 2^depth parts, should anyone count them."""
    value = b")"
    for _ in range(depth):
        value += b"2\x86"  # DUP, TUPLE2
    return value


@pytest.mark.parametrize(
    "program",
    [
        b"}" + nested(60) + b"K\x01s.",  # as a key
        b"}" + nested(60) + b"Nsc" + b"a\nb\n" + b")R.",
        b"r\xff\xff\xff\xff.",  # kept as number 2^32 - 1
        b"]r\xff\xff\xff\xff.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # 2^63 - 1 bytes
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xff].",  # a frame as long
        b"I" + b"9" * 10_000 + b"\n.",
        b"(" * 100_000 + b".",
        b"]" + b"2a" * 1000 + b".",  # a list within itself
        b"0.",
        b"\x81.",
        b"cos\nsystem\nS'exit 1'\n\x85R.",
        b"(S'exit 1'\nios\nsystem\n.",
        b"\x82\x01.",
        b"\x97.",
    ],
)
def test_hostile_pickles(tmp_path, program):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04" + program)
    with pytest.raises(ValueError, match="state dict") as error:
        read_pickled(path)
    assert len(str(error.value)) < 600


def test_modules_within_themselves(tmp_path):
    made = net()
    made._modules["self"] = made
    torch.save({"model": made}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="has itself as its part"):
        read_pickled(tmp_path / "x.pth")


def test_too_many_instructions(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\x80\x02" + b"N0" * 2_000_000 + b"N.")
    with (
        open(path, "rb") as file,
        pytest.raises(DamagedError, match="more than 3000000 inst"),
    ):
        Program().read(file)
