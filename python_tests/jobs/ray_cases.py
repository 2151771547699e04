"""Shards of small photographs, and what the tests of `jobs.ray` look at."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_native.demo.photo import photograph
from deeplab_native.jobs._segment_asked import Asked
from deeplab_native.jobs.ray import _run
from deeplab_native.jobs.ray._how import How
from deeplab_native.jobs.ray._inputs import find
from deeplab_native.jobs.ray._samples import Columns, Sample
from deeplab_native.jobs.ray._store import Store
from deeplab_native.jobs.ray._work import Item, Segment

LABELS = 3
SIZES = ((48, 64), (64, 48), (48, 64))


def photos(number: int) -> dict[str, np.ndarray]:
    """Crops of the package's photograph, of two sizes, by key."""
    whole = Image.fromarray(photograph())
    found = {}
    for i in range(number):
        height, width = SIZES[i % len(SIZES)]
        left, top = 7 * i % 200, 11 * i % 150
        crop = whole.crop((left, top, left + 6 * width, top + 6 * height))
        found[f"{i:03d}"] = np.array(crop.resize((width, height)))
    return found


def encoded(photo: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, format="PNG")
    return file.getvalue()


def scores(photo: np.ndarray, seed: int = 0) -> np.ndarray:
    """(L, H, W) float32 that have to do with the photograph."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(LABELS, *photo.shape[:2]))
    return (photo.transpose(2, 0, 1) / 64 + noise).astype(np.float32)


def array(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def write_folder(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True)
    for key, photo in photos(number).items():
        (folder / f"{key}.png").write_bytes(encoded(photo))
    return folder


def write_scores(folder: Path, number: int) -> Path:
    folder.mkdir()
    for i, (key, photo) in enumerate(photos(number).items()):
        np.save(folder / f"{key}.npy", scores(photo, i))
    return folder


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_parquet(path: Path, columns: dict[str, list], row_group: int = 4) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=row_group)
    return path


def masks_in(output: Path) -> dict[str, bytes]:
    """Of the whole output, by key (of shards SHARD/KEY); a key that is there twice is an error."""
    found: dict[str, bytes] = {}

    def add(key: str, content: bytes) -> None:
        assert key not in found, f"{key} is there twice"
        found[key] = content

    for path in sorted((output / "masks").rglob("*.*")):
        name = path.relative_to(output / "masks").with_suffix("")
        if path.suffix == ".png":
            add(str(name), path.read_bytes())
        elif path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for info in tar:
                    add(f"{name}/{info.name[:-4]}", tar.extractfile(info).read())
        else:
            import pyarrow.parquet

            for row in pyarrow.parquet.read_table(path).to_pylist():
                assert Image.open(io.BytesIO(row["mask"])).size == (row["width"], row["height"])
                add(f"{name}/{row['key']}", row["mask"])
    return found


def manifest(output: Path) -> list[dict]:
    files = sorted((output / "manifest").rglob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def states(output: Path) -> dict[str, tuple[int, int]]:
    """Of all files of finished shards: a file that is written again has another inode."""
    found = {}
    for shard in (output / "shards").rglob("*.json"):
        about = json.loads(shard.read_text())
        lines = (output / f"manifest/{about['shard']}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        for path in (shard, *(output / row["output"] for row in rows if row["output"])):
            stat = path.stat()
            found[str(path)] = stat.st_ino, stat.st_mtime_ns
    return found


def workers_of_this_process() -> list[int]:
    """Processes of Ray in which a worker is, below this one."""
    parents, found = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "status").read_text()
            title = (path / "cmdline").read_bytes()
        except OSError:
            continue
        pid = int(path.name)
        parents[pid] = int(status.split("PPid:")[1].split()[0])
        if title.startswith(b"ray::") and b"MapWorker" in title:
            found.append(pid)

    def is_ours(pid: int) -> bool:
        while pid > 1:
            if pid == os.getpid():
                return True
            pid = parents.get(pid, 0)
        return False

    return [pid for pid in found if is_ours(pid)]


@dataclass
class Deadly(Segment):
    """An image that ends the process that looks at it; of every image that is read, a line."""

    deadly: str = ""
    log: str = ""
    seconds: float = 0.0  # that reading an image takes

    def load(self, sample: Sample) -> Item:
        with open(self.log, "a") as file:
            file.write(f"{sample.key}\n")
        time.sleep(self.seconds)
        if sample.key == self.deadly:
            os._exit(1)
        return super().load(sample)


def in_shards(labels: dict[str, bytes], *shards: str) -> dict[str, bytes]:
    """By SHARD/KEY, where all shards have the same images."""
    return {f"{shard}/{key}": mask for shard in shards for key, mask in labels.items()}


def listening(pid: int) -> set[str]:
    """Addresses, in hex, that the processes of Ray below a process listen at."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "status").read_text().split("PPid:")[1].split()[0])
            if parent == pid:
                links = [os.readlink(file) for file in (process / "fd").iterdir()]
                inodes |= {link[8:-1] for link in links if link.startswith("socket:")}
        except OSError:
            continue
    lines = []
    for table in ("tcp", "tcp6"):
        lines += [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {words[1].split(":")[0] for words in lines if words[3] == "0A" and words[9] in inodes}


def work_of(**how):
    asked = Asked(None, None, None, False, None, None, None, "weights", None, True, "cpu")
    _, network, settings = asked.load()
    return Deadly(network, settings, **how)


def run_slowly(photos, output, log, progress, workers):
    """Units of two images, each of which takes a while, so that something can happen meanwhile."""
    work = work_of(log=str(log), seconds=0.3)
    how = How("png", 2, Columns(), "skip", 0, 2, True, False, workers, 1, None, progress, None)
    inputs = find([str(photos)], None, refine=False)
    done = _run.run("segment", inputs, work, Store(str(output)), {}, how)
    return done.outcome, done.share
