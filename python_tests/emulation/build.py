"""Builds the emulated CUDA kernels and lets the ops run them in place of a GPU's."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch

from deeplab_native import _C, _native

HERE = Path(__file__).parent
ENVIRONMENT = "DEEPLAB_NATIVE_EMULATOR"  # a folder with another _C_emu, such as a sanitizer's


def default_folder(suffix: str = "") -> Path:
    """Where the emulated kernels of this Python are built."""
    return HERE.parents[1] / "build" / f"emulation-{sys.implementation.cache_tag}{suffix}"


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits for the other processes that build there, those of one test run among them."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "building.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed, if only by the process's end
        yield


def build(folder: Path, *options: str, target: str = "_C_emu", source: Path = HERE) -> None:
    """Configures and builds a target in a folder; options such as -DSANITIZE=thread.

    The first process builds, others that come meanwhile wait and find it up to date. Other sources
    than the emulated kernels are built in the same way.
    """
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if cmake is None:
        pytest.skip(f"no cmake to build {target} with: pip install '.[test]'")
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    where = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}"]
    jobs = str(len(os.sched_getaffinity(0)))
    # a sanitizer is for the tests: CMake waits for ever for a compiler that begins with TSan's
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    with _alone_in(folder):
        for command in (
            [cmake, "-S", source, "-B", folder, "-Wno-dev", *where, *options],
            [cmake, "--build", folder, "--target", target, "--parallel", jobs],
        ):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                pytest.fail(f"{target} does not build:\n{done.stdout}\n{done.stderr}")


def load_emulator() -> ModuleType:
    """The module _C_emu, from the folder in DEEPLAB_NATIVE_EMULATOR or else built first."""
    folder = os.environ.get(ENVIRONMENT)
    if folder is None:
        folder = default_folder()
        build(folder)
    path = next(Path(folder).glob("_C_emu*.so"), None)
    if path is None:
        pytest.fail(f"{folder}: has no _C_emu")
    spec = importlib.util.spec_from_file_location("_C_emu", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def on_the_emulator(emulator: ModuleType) -> Iterator[None]:
    """Within, CPU tensors take every op's CUDA implementation and the emulator's kernels."""
    patch = pytest.MonkeyPatch()
    for name in dir(emulator):
        if name.endswith("_cuda"):
            patch.setattr(_C, name, getattr(emulator, name), raising=False)
    patch.setattr(_native, "CUDA_DEVICES", {"cuda", "cpu"})
    override = torch.library.Library(_native.NAMESPACE, "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kernels are replaced is the point
        for name, implementation in _native.CUDA_IMPLEMENTATIONS.items():
            override.impl(name, implementation, "CPU", allow_override=True)
    try:
        yield
    finally:
        override._destroy()
        patch.undo()
