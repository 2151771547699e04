"""The four jobs have one engine: what holds of one holds of all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import jobs, models, weights
from deeplab_native._files import sole_writer
from deeplab_native.jobs import _search
from deeplab_native.jobs._execution import Execution
from python_tests.jobs import cases
from python_tests.jobs.cases import IMAGES, JOBS

# `jobs.search_crf` is the function
search_module = sys.modules["deeplab_native.jobs.search_crf"]

pytestmark = pytest.mark.usefixtures("quick_workers")


@pytest.fixture
def top(tmp_path):
    """The folders of `cases`."""
    folder = tmp_path / "data"
    folder.mkdir()
    cases.write_folders(folder)
    return folder


@pytest.fixture(params=list(JOBS))
def job(request):
    """Each of the four."""
    return JOBS[request.param]


def test_the_same_files_from_processes_and_from_none(job, top, tmp_path):
    before = torch.get_num_threads()
    job(top, tmp_path / "here", workers=0, threads=1)
    assert torch.get_num_threads() == before
    job(top, tmp_path / "there", workers=2, threads=1)
    assert cases.results(tmp_path / "here") == cases.results(tmp_path / "there") != {}


def test_progress_begins_and_counts_every_image(job, top, tmp_path):
    seen: list[jobs.Progress] = []
    job(top, tmp_path / "out", workers=0, progress=seen.append)
    stages = list(dict.fromkeys(p.stage for p in seen))
    assert len(stages) == (3 if job is cases.search_crf else 1)
    for stage in stages:
        of_stage = [p for p in seen if p.stage == stage]
        assert (of_stage[0].done, of_stage[0].image) == (0, None)
        assert of_stage[-1].done == of_stage[-1].total
        assert {p.image for p in of_stage[1:]} >= {f"{i}" for i in range(IMAGES)} or {
            p.image for p in of_stage[1:]
        } == {f"{i}.png" for i in range(IMAGES)}
        assert [p.done for p in of_stage] == sorted(p.done for p in of_stage)
        assert all(p.seconds >= 0 and p.failed == 0 for p in of_stage)
    seen.clear()
    job(top, tmp_path / "out", workers=0, progress=seen.append)
    last = [p for p in seen if p.stage == stages[-1]][-1]
    assert last.skipped == last.done == last.total and last.rate == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_cancelled_goes_on(job, top, tmp_path, workers):
    job(top, tmp_path / "whole", workers=0, threads=1)
    ended = []
    how = {"workers": workers, "threads": 1, "progress": lambda p: p.image and ended.append(p)}
    with pytest.raises(jobs.Cancelled) as cancelled:
        job(top, tmp_path / "out", cancel=lambda: len(ended) >= 2, **how)
    assert 2 <= cancelled.value.done < cancelled.value.total
    assert f"{cancelled.value.done} of {cancelled.value.total}" in str(cancelled.value)
    with sole_writer(tmp_path / "out" if job is not cases.search_crf else tmp_path):
        pass  # nobody is there any more
    ended.clear()
    job(top, tmp_path / "out", **how)
    assert cases.results(tmp_path / "out") == cases.results(tmp_path / "whole")


def _child(name: str, top: Path, output: Path) -> None:
    JOBS[name](top, output, workers=0, threads=1)


@pytest.mark.parametrize("name", list(JOBS))
def test_killed_at_any_moment_it_resumes_to_the_same_files(name, top, tmp_path):
    """Killed again and again, at moments all over a run, until one run comes to its end."""
    context = multiprocessing.get_context("forkserver")

    def run(output: Path, kill_after: float | None) -> float:
        start = time.monotonic()
        process = context.Process(target=_child, args=(name, top, output))
        process.start()
        process.join(kill_after)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return time.monotonic() - start

    run(tmp_path / "first", None)  # which also starts the server
    whole = run(tmp_path / "whole", None)
    random = np.random.default_rng(0)
    for share in random.permutation(np.linspace(0.2, 1.0, 7)):
        run(tmp_path / "out", share * whole)
    run(tmp_path / "out", None)
    assert cases.results(tmp_path / "out") == cases.results(tmp_path / "whole")
    assert not list((tmp_path / "out").glob(".*"))


def test_neither_resumed_nor_overwritten(job, top, tmp_path):
    job(top, tmp_path / "out", workers=0)
    with pytest.raises(ValueError, match=r"`output` .*: has results of an earlier run"):
        job(top, tmp_path / "out", workers=0, resume=False)
    seen: list[jobs.Progress] = []
    job(top, tmp_path / "out", workers=0, overwrite=True, progress=seen.append)
    assert all(p.skipped == 0 for p in seen)


def test_numbers_that_cannot_be(job, top, tmp_path):
    many = 4 * len(os.sched_getaffinity(0)) + 1
    for how, words in (
        ({"workers": many}, f"`workers` {many}: too many for"),
        ({"workers": -1}, "`workers` -1: too few"),
        ({"threads": 0}, "`threads` 0: too few"),
        ({"memory": 0}, "`memory`: expected a positive number"),
        ({"device": "gpu"}, "`device` gpu: expected cpu, cuda"),
    ):
        with pytest.raises(ValueError, match=words):
            job(top, tmp_path / "out", **how)
    with pytest.raises(TypeError, match="`workers`: expected an integer, got float"):
        job(top, tmp_path / "out", workers=2.0)
    assert not (tmp_path / "out").exists()


def test_in_this_process_torch_keeps_the_threads_that_it_has(top, tmp_path, set_threads):
    set_threads(1)  # as OMP_NUM_THREADS or the caller asks for
    net = weights.load_model(weights.EMBEDDED)
    assert cases.segment(top, tmp_path / "out", model=net).threads == 1
    assert Execution(workers=0).for_tasks(5).threads == 1
    set_threads(2)
    assert Execution(workers=0).for_tasks(5).threads == 2


def test_a_search_on_a_gpu_checks_images_on_all_cores(top, tmp_path, monkeypatch):
    """Only the CRFs are the GPU's work."""
    seen = []

    def checked(plan, how):
        seen.append(how)
        raise ValueError("enough")

    monkeypatch.setattr(_search, "_check_all", checked)
    monkeypatch.setattr(search_module, "check_device", lambda *_: None)
    with pytest.raises(ValueError, match="enough"):
        cases.search_crf(top, tmp_path / "out", device="cuda")
    assert seen[0].workers == min(IMAGES, len(os.sched_getaffinity(0)))


def test_what_has_no_partner_is_said_at_the_start(top, tmp_path):
    (top / "scores" / "9.npy").touch()
    seen: list[jobs.Progress] = []
    done = cases.refine(top, tmp_path / "out", workers=0, progress=seen.append)
    assert seen[0].image is None and seen[0].notes == tuple(done.unmatched)
    assert done.unmatched == ["1 scores have no image: 9.npy"]
    assert all(p.notes == () for p in seen[1:])


def test_results_of_before_there_were_records(top, tmp_path):
    cases.refine(top, tmp_path / "out", workers=0)
    (tmp_path / "out" / "crf.sqlite").unlink()
    with pytest.raises(ValueError, match="has results of an earlier run"):
        cases.refine(top, tmp_path / "out", workers=0, resume=False)
    assert not (tmp_path / "out" / "crf.sqlite").exists()
    assert cases.refine(top, tmp_path / "out", workers=0).skipped == IMAGES


def test_images_that_cannot_be_used_are_named(job, top, tmp_path):
    (top / "images" / "1.png").write_bytes(b"no picture")
    if job in (cases.evaluate, cases.search_crf):
        with pytest.raises(jobs.ImagesFailedError) as error:
            job(top, tmp_path / "out", workers=0)
        failed = error.value.failed
        assert error.value.total == IMAGES and str(error.value).startswith("1: ")
    else:
        failed = job(top, tmp_path / "out", workers=0).failed
    assert len(failed) == 1
    assert "not a picture" in (failed.get("1") or failed["1.png"])


def test_changed_files_are_done_anew(top, tmp_path):
    for job in (cases.refine, cases.segment):
        out = tmp_path / job.__name__
        assert job(top, out, workers=0).skipped == 0
        with Image.open(top / "images" / "2.png") as image:
            turned = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        turned.save(top / "images" / "2.png")
        assert job(top, out, workers=0).skipped == IMAGES - 1


def test_a_net_that_is_here(top, tmp_path):
    net = weights.load_model(weights.EMBEDDED)
    cases.segment(top, tmp_path / "own", model=net, longest_side=weights.EMBEDDED_SIDE)
    cases.segment(top, tmp_path / "package", workers=0)
    assert cases.results(tmp_path / "own") == cases.results(tmp_path / "package")
    # its weights may have changed
    assert cases.segment(top, tmp_path / "own", model=net).skipped == 0
    with pytest.raises(ValueError, match="`workers` 2: a net that is here works here"):
        cases.segment(
            top, tmp_path / "x", model=models.create_model("deeplab_resnet101"), workers=2
        )


def test_one_image_replaces_what_a_folder_had(top, tmp_path):
    out = tmp_path / "out"
    cases.segment(top, out, workers=0)
    jobs.segment(top / "images" / "0.png", out, crf=None)
    assert cases.segment(top, out, workers=0).skipped == IMAGES - 1
