"""`jobs.ray` on a cluster of this machine: complete and equal whatever ends in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'deeplab_native[ray]'")
pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from deeplab_native import jobs
from deeplab_native.jobs.ray import _cluster, _run
from deeplab_native.jobs.ray._how import How
from deeplab_native.jobs.ray._inputs import find
from deeplab_native.jobs.ray._samples import Columns
from deeplab_native.jobs.ray._store import Store
from python_tests.jobs import ray_cases as cases

# what Ray does in its own threads and at its end
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NUMBER = 12


@pytest.fixture(scope="module")
def cluster():
    """Of two CPUs, of this machine alone; what every test uses that is connected already."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(cores)[:2]))
    try:
        with _cluster.connected(None):
            yield
    finally:
        os.sched_setaffinity(0, cores)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder `photos`, and its labels by `jobs.segment`, in one process, by key."""
    folder = tmp_path_factory.mktemp("alone")
    photos = cases.write_folder(folder / "photos", NUMBER)
    done = jobs.segment(photos, folder / "labels", overlay=False, workers=0, threads=1)
    assert done.segmented == NUMBER
    return photos, {path.stem: path.read_bytes() for path in (folder / "labels").glob("*.png")}


def test_the_own_cluster_is_of_this_machine_alone(cluster):
    # 127.0.0.1, also as an IPv6 address
    found = cases.listening(os.getpid())
    assert found and found <= {"0100007F", "0000000000000000FFFF00000100007F"}
    import ray

    assert ray.cluster_resources()["CPU"] == 2


def test_a_killed_worker_changes_nothing(cluster, alone, tmp_path, capfd):
    photos, labels = alone
    said, killed = [], []

    def progress(now):
        said.append(now)
        if now.done and not killed and (workers := cases.workers_of_this_process()):
            os.kill(workers[0], signal.SIGKILL)
            killed.append(workers[0])

    log = tmp_path / "read"
    done, share = cases.run_slowly(photos, tmp_path / "out", log, progress, workers=2)
    assert killed and done.restarts >= 1
    assert (done.images, done.failures, done.shards) == (NUMBER, 0, NUMBER // 2)
    assert (share.workers, share.threads, share.gpus) == (2, 1, 0)
    # the killed worker's unit, of two images, is all that is read again
    assert NUMBER < len(log.read_text().split()) <= NUMBER + 2
    assert cases.masks_in(tmp_path / "out") == labels
    rows = cases.manifest(tmp_path / "out")
    assert sorted(row["key"] for row in rows) == sorted(labels)
    for row in rows:
        assert row["status"] == "ok" and row["error"] is None
        assert sum(row["classes"].values()) == row["height"] * row["width"]
    assert (said[0].done, said[0].total) == (0, NUMBER)
    assert (said[-1].done, said[-1].total, said[-1].failed) == (NUMBER, NUMBER, 0)
    assert said[-1].rate > 0
    assert capfd.readouterr() == ("", "")
    again, _ = cases.run_slowly(photos, tmp_path / "out", log, None, workers=2)
    assert (again.images, again.shards) == (0, 0)


DRIVER = """
import sys
from deeplab_native import jobs
jobs.ray.segment(sys.argv[1], sys.argv[2], shard_images=1, batch=1, workers=1)
"""


def test_a_killed_driver_loses_nothing_and_nothing_is_done_again(cluster, alone, tmp_path):
    photos, labels = alone
    out = tmp_path / "out"
    run = [sys.executable, "-c", DRIVER, str(photos), str(out)]
    driver = subprocess.Popen(run, stderr=subprocess.PIPE, text=True)
    try:
        while len(list(out.glob("shards/*.json"))) < 3:
            assert driver.poll() is None, driver.stderr.read()
            time.sleep(0.02)
    finally:
        driver.kill()  # by SIGKILL, as a power cut would
        driver.communicate()
    before = cases.states(out)
    finished = len(list(out.glob("shards/*.json")))
    added = photos / "new.png"
    shutil.copy(photos / "000.png", added)
    try:
        done = jobs.ray.segment(photos, out, shard_images=4)
    finally:
        added.unlink()
    assert finished <= done.skipped <= finished + 1
    assert done.images + done.skipped == NUMBER + 1
    assert before.items() <= cases.states(out).items()
    assert cases.masks_in(out) == {**labels, "new": labels["000"]}
    assert len(cases.manifest(out)) == NUMBER + 1
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_an_image_that_ends_its_worker_costs_itself_alone(cluster, alone, tmp_path):
    photos, labels = alone
    work = cases.work_of(deadly="003", log=str(tmp_path / "read"))
    how = How("tar", 6, Columns(), "skip", 0, 4, True, False, 1, 1, None, None, None)
    inputs = find([str(photos)], None, refine=False)
    out = tmp_path / "out"
    done = _run.run("segment", inputs, work, Store(str(out)), {}, how).outcome
    assert (done.images, done.failures, done.restarts) == (NUMBER - 1, 1, 3)
    ((name, why),) = done.failed.items()
    assert name.endswith("/003") and "its worker process died 2 times" in why
    assert {key.split("/")[1] for key in cases.masks_in(out)} == labels.keys() - {"003"}


def test_tar_shards_with_faults(cluster, alone, tmp_path):
    _, labels = alone
    pictures = {f"{k}.png": cases.encoded(p) for k, p in cases.photos(NUMBER).items()}
    whole = cases.write_tar(tmp_path / "in/a.tar", pictures)
    broken = {**pictures, "003.png": pictures["003.png"][:-900], "x.txt": b"no picture"}
    cases.write_tar(tmp_path / "in/b.tar", broken)
    (tmp_path / "in/c.tar").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    out = tmp_path / "out"
    given = str(tmp_path / "in/?.tar")
    arguments = {"masks": "tar", "workers": 2}
    with pytest.raises(ValueError, match=r"^(b/003|b/x|c): "):
        jobs.ray.segment(given, tmp_path / "stopped", on_error="stop", **arguments)
    said = []
    done = jobs.ray.segment(given, out, progress=said.append, **arguments)
    assert done.failed.keys() == {"b/003", "b/x", "c"} and done.failures == 3
    assert "damaged or cut off" in done.failed["b/003"] and "/proc/" not in done.failed["b/003"]
    assert done.failed["b/x"] == "no picture among its members (txt)"
    assert "damaged or cut off" in done.failed["c"]
    assert {now.image for now in said if now.error} == done.failed.keys()
    found = cases.masks_in(out)
    expected = cases.in_shards(labels, "a", "b")
    del expected["b/003"]
    of_c = {key: mask for key, mask in found.items() if key.startswith("c/")}
    assert 0 < len(of_c) < NUMBER and of_c.items() <= cases.in_shards(labels, "c").items()
    assert found == {**expected, **of_c}
    failed = {(r["input"][-5:], r["key"]) for r in cases.manifest(out) if r["status"] != "ok"}
    assert failed == {("b.tar", "003"), ("b.tar", "x")}

    # what failed is tried again, and nothing else; then a shard that is another one by now
    before = (out / "masks/a.tar").stat()
    again = jobs.ray.segment(given, out, **arguments)
    assert (again.images, again.failures) == (0, 3) and again.skipped == done.images
    assert cases.masks_in(out) == found
    cases.write_tar(tmp_path / "in/c.tar", pictures)
    mended = jobs.ray.segment(given, out, **arguments)
    assert mended.images == NUMBER and mended.failed.keys() == {"b/003", "b/x"}
    assert cases.masks_in(out) == {**expected, **cases.in_shards(labels, "c")}
    assert (out / "masks/a.tar").stat().st_mtime_ns == before.st_mtime_ns


def test_from_a_server_to_a_url(cluster, alone, tmp_path):
    _, labels = alone
    pictures = {f"{k}.png": cases.encoded(p) for k, p in cases.photos(NUMBER).items()}
    for i in (8, 9, 10):
        cases.write_tar(tmp_path / f"in/s-{i:02d}.tar", pictures)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "in")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/s-{{08..10}}.tar"
        done = jobs.ray.segment(url, f"file://{tmp_path}/out", masks="parquet", workers=1)
    finally:
        server.shutdown()
        server.server_close()
    assert (done.images, done.failures) == (3 * NUMBER, 0)
    assert cases.masks_in(tmp_path / "out") == cases.in_shards(labels, "s-08", "s-09", "s-10")


def test_refine_from_folders_shards_and_parquet(cluster, tmp_path):
    photos = cases.write_folder(tmp_path / "photos", 6)
    scores = cases.write_scores(tmp_path / "scores", 6)
    crf = jobs.CRFSettings(iterations=3)
    jobs.refine(photos, scores, tmp_path / "alone", crf=crf, workers=0, threads=1)
    labels = {path.stem: path.read_bytes() for path in (tmp_path / "alone").glob("*.png")}

    done = jobs.ray.refine(photos, scores, tmp_path / "one", crf=crf, workers=1)
    assert (done.images, done.failures) == (6, 0) and 0 < done.changed < done.pixels
    assert cases.masks_in(tmp_path / "one") == labels

    members = {}
    for key in labels:
        members[f"{key}.png"] = (photos / f"{key}.png").read_bytes()
        members[f"{key}.npy"] = (scores / f"{key}.npy").read_bytes()
    shard = cases.write_tar(tmp_path / "in/a.tar", members)
    del members["004.npy"]
    cases.write_tar(tmp_path / "in/b.tar", members)
    out = tmp_path / "two"
    done = jobs.ray.refine(shard.parent, None, out, crf=crf, workers=1)
    assert done.failed == {"b/004": "no scores among its members (png)"}
    expected = cases.in_shards(labels, "a", "b")
    del expected["b/004"]
    assert cases.masks_in(out) == expected

    keys = sorted(labels)
    columns = {
        "id": keys,
        "photo": [{"bytes": members[f"{key}.png"], "path": key} for key in keys],
        "logits": [None, *((scores / f"{key}.npy").read_bytes() for key in keys[1:])],
    }
    table = cases.write_parquet(tmp_path / "tables/t.parquet", columns)
    done = jobs.ray.refine(
        table, None, tmp_path / "three", crf=crf, workers=1, masks="parquet",
        key_column="id", image_column="photo", scores_column="logits",
    )  # fmt: skip
    assert done.failed == {"t-00000/000": "no scores"} and done.shards == 2
    expected = {f"t-0000{i // 4}/{key}": labels[key] for i, key in enumerate(keys) if i}
    assert cases.masks_in(tmp_path / "three") == expected


def test_cancelled_and_other_settings(cluster, alone, tmp_path):
    photos, labels = alone
    with pytest.raises(jobs.Cancelled):
        jobs.ray.segment(photos, tmp_path / "out", shard_images=1, workers=1, cancel=lambda: True)
    finished = len(list((tmp_path / "out/shards").glob("*.json")))
    assert finished < NUMBER
    with pytest.raises(ValueError, match=r"made with other settings: crf "):
        jobs.ray.segment(photos, tmp_path / "out", crf=None)
    with pytest.raises(ValueError, match="has results of an earlier run"):
        jobs.ray.segment(photos, tmp_path / "out", resume=False)
    done = jobs.ray.segment(photos, tmp_path / "out", workers=1)
    assert done.skipped == finished and done.images == NUMBER - finished
    assert cases.masks_in(tmp_path / "out") == labels
    anew = jobs.ray.segment(photos, tmp_path / "out", overwrite=True, masks="tar", workers=1)
    assert (anew.images, anew.skipped) == (NUMBER, 0)
    assert len(cases.masks_in(tmp_path / "out")) == NUMBER


def test_a_run_that_another_one_has_overtaken_stops(cluster, alone, tmp_path):
    photos, _ = alone
    out = tmp_path / "out"

    def overtake(now):
        if now.done == 0:
            about = json.loads((out / "run.json").read_text())
            (out / "run.json").write_text(json.dumps({**about, "run": "another"}))

    with pytest.raises(ValueError, match="another run has begun there"):
        jobs.ray.segment(photos, out, workers=1, progress=overtake)
    assert not (out / "masks").exists()


def test_on_the_command_line(cluster, alone, tmp_path, run, monkeypatch):
    photos, labels = alone
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    shutil.copy(photos / "000.png", "in/a.png")
    (tmp_path / "in/b.png").write_bytes(b"no picture")
    result = run("segment", "--ray", "in", "-o", "out", "--workers", "1", "--json")
    assert result.code == 1
    printed = json.loads(result.out)
    assert (printed["images"], printed["skipped"], printed["failures"]) == (1, 0, 1)
    assert "not a picture that Pillow can read" in result.err
    assert cases.masks_in(tmp_path / "out") == {"a": labels["000"]}
    (tmp_path / "in/b.png").unlink()
    result = run("segment", "in", "-o", "out", "--ray", "local")
    assert result.code == 0 and "0 done, 1 finished before" in result.out
    cases.write_scores(tmp_path / "scores", 1)
    shutil.copy(photos / "000.png", "in/000.png")
    result = run("crf", "in", "scores", "-o", "refined", "--ray", "--iterations", "1")
    assert result.code == 0 and "of the pixels" in result.out
    assert list(cases.masks_in(tmp_path / "refined")) == ["000"]
