"""Training with the photographs on the device: as exact as with the loader, and recorded."""

import signal

import pytest
import torch

from deeplab_native.data import SampleError
from deeplab_native.training import check_config, device_steps, loop, train
from deeplab_native.training.folders import _differences
from deeplab_native.training.loop import Loop
from python_tests.training import training_cases as cases
from python_tests.training.test_training import damaged_shapes, rows, same, stop_after  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return cases.write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(autouse=True)
def tiny_net(monkeypatch, set_threads):
    cases.register_tiny_net(monkeypatch)


def config_of(root, data=None, **changes):
    there = {"dataset": "folder", "root": str(root), "on_device": True, **(data or {})}
    return cases.config_of(root, data=there, **changes)


# what a state is made of: average, momentum, a trunk that rests, dropout, several passes
WHOLE = {
    "schedule": {"iterations": 7, "policy": "poly", "head_first": {"iterations": 5, "lr": 0.01}},
    "ema": 0.9,
    "accumulate": 2,
    "log_every": 1,
    "checkpoints": {"every": 4},
}


@pytest.mark.parametrize("number", [signal.SIGTERM, None])
def test_goes_on_exactly(shapes, tmp_path, stop_after, monkeypatch, number):  # noqa: F811
    config = config_of(shapes, **WHOLE)
    train(config, tmp_path / "whole")
    stop_after(7, number)
    if number is None:
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "halves")
    else:
        assert train(config, tmp_path / "halves").interrupted_by == number
    monkeypatch.undo()
    cases.register_tiny_net(monkeypatch)
    train(config, tmp_path / "halves", resume=True)
    assert same(cases.weights_of(tmp_path / "whole"), cases.weights_of(tmp_path / "halves"))
    logs = [rows(tmp_path / f"{run}/training.csv") for run in ("whole", "halves")]
    for a, b in zip(*logs, strict=True):
        del a["images_per_second"], b["images_per_second"]
        assert a == b


def test_it_is_the_loaders_run(shapes, tmp_path):
    """Rounding apart: the same samples, rates, momenta and averages."""
    for on_device in (True, False):
        config = config_of(
            shapes,
            data={"on_device": on_device},
            augmentation={"crop": 65, "scales": [1.0], "brightness": 0.1},
            **WHOLE,
        )
        train(config, tmp_path / str(on_device))
    a, b = cases.weights_of(tmp_path / "True"), cases.weights_of(tmp_path / "False")
    for key, tensor in a.items():
        torch.testing.assert_close(tensor, b[key], rtol=1e-4, atol=1e-6)
    losses = [
        [float(r["loss"]) for r in rows(tmp_path / f"{n}/training.csv")] for n in (True, False)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def recorded(monkeypatch, recorder):
    """Runs are recorded, by this instead of CUDA."""
    monkeypatch.setattr(Loop, "_records", lambda self: self.config.graph)
    monkeypatch.setattr(loop, "record_cuda_graph", recorder)


@pytest.mark.parametrize("works", [True, False])
def test_a_recorded_update_is_the_same(shapes, tmp_path, monkeypatch, capsys, works):
    """Once in each phase, after the first updates; what cannot be recorded runs all the same."""
    train(config_of(shapes, **WHOLE), tmp_path / "plain")
    made, played = [], []

    def recorder(step):
        made.append(step.__self__.state.iteration)
        if not works:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        def replay():
            played.append(step.__self__.state.iteration)
            inputs = step.__self__._inputs.data_ptr()
            assert inputs == addresses.setdefault(made[-1], inputs)
            step()

        return replay

    addresses = {}
    recorded(monkeypatch, recorder)
    train(config_of(shapes, graph=True, **WHOLE), tmp_path / "graph")
    warm = device_steps.WARM_UPDATES
    assert made == [warm, 5 + warm]
    assert played == ([3, 4, 8, 9, 10, 11] if works else [])
    assert capsys.readouterr().err.count("(operation not permitted when stream is capturing)") == (
        0 if works else 2
    )
    assert same(cases.weights_of(tmp_path / "plain"), cases.weights_of(tmp_path / "graph"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graph(shapes, tmp_path, capsys):
    """Of bfloat16, beside kernels that are started one by one; and nothing waits."""
    for graph in (True, False):
        change = {"accelerator": "cuda", "precision": "bf16", "graph": graph}
        train(config_of(shapes, **WHOLE, **change), tmp_path / str(graph))
    assert "cannot be recorded" not in capsys.readouterr().err
    a, b = cases.weights_of(tmp_path / "True"), cases.weights_of(tmp_path / "False")
    for key, tensor in a.items():
        torch.testing.assert_close(tensor, b[key], rtol=2e-2, atol=2e-3)


def test_it_learns_in_bf16(shapes, tmp_path, capsys):
    config = config_of(shapes, precision="bf16", graph=True, schedule={"iterations": 60})
    outcome = train(config, tmp_path / "run")
    assert outcome.scores.mean_iou > 0.8
    assert capsys.readouterr().err.count("graph: needs CUDA and one process") == 1
    trained = cases.weights_of(tmp_path / "run")
    assert all(tensor.dtype == torch.float32 for tensor in trained.values())


def test_what_does_not_fit_is_read_by_the_loader(shapes, tmp_path, capsys):
    train(cases.config_of(shapes, schedule={"iterations": 4}), tmp_path / "loader")
    small = config_of(shapes, data={"device_memory": 1e-6}, schedule={"iterations": 4})
    train(small, tmp_path / "small")
    assert "data.on_device: the photographs take 0.00 GB, and" in capsys.readouterr().err
    assert same(cases.weights_of(tmp_path / "loader"), cases.weights_of(tmp_path / "small"))


def test_what_is_not_finite_stops_before_a_checkpoint(shapes, tmp_path, monkeypatch):
    """The update is named in which it was, though later ones were started."""
    forward = cases.TinyNet.score_map
    passes = []

    def infinite(net, x):
        scores = forward(net, x)
        if net.training:
            passes.append(1)
            if len(passes) == 6:
                scores.register_hook(lambda gradient: gradient * float("inf"))
        return scores

    monkeypatch.setattr(cases.TinyNet, "score_map", infinite)
    config = config_of(shapes, checkpoints={"every": 4}, log_every=10)
    with pytest.raises(FloatingPointError, match=r"iteration 6: the norm of the gradient .*\d\d, "):
        train(config, tmp_path / "run")
    assert [p.name for p in (tmp_path / "run/checkpoints").iterdir()] == [
        "iteration_00000004.safetensors"
    ]


def test_damaged_photographs(tmp_path, capsys):
    root = damaged_shapes(tmp_path)
    with pytest.raises(SampleError, match=r"^[^\n]*03.png: damaged or cut off[^\n]*$"):
        train(config_of(root), tmp_path / "run")
    data = {"on_bad_sample": "skip"}
    outcome = train(config_of(root, data, schedule={"iterations": 9}), tmp_path / "other")
    assert sorted(outcome.failures) == ["03"]
    assert capsys.readouterr().err.count("left out: ") == 1


def test_a_graph_needs_the_device(shapes):
    with pytest.raises(ValueError, match=r"graph: needs data.on_device"):
        cases.config_of(shapes, graph=True)


def test_checkpoints_of_before_these_options(shapes):
    now = cases.config_of(shapes).model_dump(mode="json")
    before = {**now, "data": {**now["data"]}}
    del before["graph"], before["data"]["on_device"], before["data"]["device_memory"]
    assert _differences(before, now) == []
    changed = check_config({**now, "data": {**now["data"], "on_device": True}})
    assert _differences(before, changed.model_dump(mode="json")) == [
        "data.on_device false, now true"
    ]
