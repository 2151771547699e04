"""Fixtures of all tests: a fixed seed, the devices the kernels run on, the command line."""

from __future__ import annotations

import os

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # before torch is imported: OpenMP's threads spin on a core that others would use
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import _C, CRFParams
from deeplab_native.cli import main as cli
from python_tests.cli.cli_cases import HEIGHT, LABELS, WIDTH, Result
from python_tests.crf.search_cases import write_folders
from python_tests.emulation.build import load_emulator, on_the_emulator
from python_tests.said_warnings import said  # noqa: F401


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Without pytest-xdist, what the configuration says of it is taken and means nothing."""
    if not pluginmanager.hasplugin("xdist"):
        parser.addoption("--numprocesses", "--dist", help="without effect: no pytest-xdist")


def pytest_configure() -> None:
    """The workers of one run share the cores; a test that needs several threads asks for them."""
    if WORKERS > 1:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // WORKERS))


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state."""
    torch.manual_seed(20170412)
    return 20170412


@pytest.fixture(scope="session")
def emulator() -> ModuleType:
    """`_C` as the emulated CUDA kernels have it; built where it is out of date."""
    return load_emulator()


@pytest.fixture
def emulated(emulator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """During the test, the ops run their CUDA kernels, emulated, on CPU tensors."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # 10 bits of mantissa
    with on_the_emulator(emulator):
        yield emulator


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A GPU; the test is skipped where there is none."""
    if not _C.has_cuda:
        pytest.skip("deeplab_native was built without CUDA")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device, or a torch without CUDA")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # 10 bits of mantissa
    return torch.device("cuda")


@pytest.fixture(params=["cpu", "emulated", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where a test puts its tensors; "emulated" are CPU tensors that go to the CUDA kernels."""
    if request.param != "cpu":
        request.getfixturevalue(request.param)
    return torch.device("cuda" if request.param == "cuda" else "cpu")


@pytest.fixture(params=["emulated", "cuda"])
def cuda_device(request: pytest.FixtureRequest) -> torch.device:
    """Where the CUDA kernels run, for what only they do."""
    request.getfixturevalue(request.param)
    return torch.device("cuda" if request.param == "cuda" else "cpu")


@contextmanager
def _float64_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.fixture(params=["float64", "meta"])
def torch_default(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager]:
    """Contexts in which torch creates tensors of another dtype, or on another device."""
    return _float64_by_default if request.param == "float64" else lambda: torch.device("meta")


@pytest.fixture
def photo_on(photo, device):
    """The photo on a device."""
    unary, image, params = photo
    return unary.to(device), image.to(device), params


@pytest.fixture(scope="module")
def photo():
    """A noisy picture of three regions with soft energies: unary (2, 4, 30, 41), image, params."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(30), torch.arange(41), indexing="ij")
    regions = (x > 13).long() + (x + y > 45)
    image = torch.stack((regions * 90, 200 - regions * 60, x * 3)).repeat(2, 1, 1, 1)
    image = (image + torch.randint(0, 20, image.shape, generator=generator)).to(torch.uint8)
    image[1] = image[1].flip(-1)
    logits = torch.nn.functional.one_hot(regions, 4).permute(2, 0, 1) * 1.5
    logits = logits + 1.5 * torch.randn(2, 4, 30, 41, generator=generator)
    return -logits.log_softmax(1), image, CRFParams(4, 30, 20, 3, 3)


@pytest.fixture
def set_threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `deeplab-native ARGS` in this process."""

    def call(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["deeplab-native", *map(str, args)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return Result(exit_.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture
def quick_workers(monkeypatch):
    """Worker processes do not import the test runner, as they do any script's main module."""
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.delattr(main, "__file__", raising=False)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A folder with photo.png (20x30) and logits.npy, (4, 20, 30); it is the current folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    photo = random.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    photo[:, WIDTH // 2 :] += 150
    Image.fromarray(photo).save("photo.png")
    logits = random.normal(size=(LABELS, HEIGHT, WIDTH)).astype(np.float32)
    logits[0, :, : WIDTH // 2] += 2
    logits[1, :, WIDTH // 2 :] += 2
    np.save("logits.npy", logits)
    return tmp_path


@pytest.fixture(scope="session")
def search_files(tmp_path_factory):
    """The folders that `search_folders` copies."""
    folder, before = tmp_path_factory.mktemp("search"), Path.cwd()
    os.chdir(folder)
    try:
        write_folders()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def search_folders(search_files, tmp_path, monkeypatch):
    """photos/, scores/ and labels/ of small images for crf-search, in the current folder."""
    shutil.copytree(search_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
