"""Runs the notebooks of this folder and keeps their outputs.

    python notebooks/execute.py                                all of them
    python notebooks/execute.py notebooks/refine_a_mask.ipynb  one

Needs nbclient, nbformat and ipykernel (`pip install '.[test]'`). The kernel is this Python,
whatever kernels are installed; nothing is downloaded.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

HERE = Path(__file__).parent
SECONDS = 600  # of a cell: a limit that only a hang exceeds


class ThisPython(KernelSpecManager):
    """One kernel, of the Python that runs this."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"]
        return KernelSpec(
            argv=[*argv, "-f", "{connection_file}"], display_name="Python 3", language="python"
        )


def paths() -> list[Path]:
    return sorted(HERE.glob("*.ipynb"))


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a new kernel; raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        # IPython's history and profile, and what the cells write
        surroundings = {"IPYTHONDIR": folder, "JUPYTER_RUNTIME_DIR": folder}
        surroundings["OMP_WAIT_POLICY"] = "PASSIVE"  # others may need the cores
        with patch.dict(os.environ, surroundings):
            # by files in the folder: no port is opened
            manager = AsyncKernelManager(
                kernel_spec_manager=ThisPython(), transport="ipc", ip=f"{folder}/kernel"
            )
            client = NotebookClient(
                notebook,
                km=manager,
                timeout=SECONDS,
                startup_timeout=SECONDS,
                resources={"metadata": {"path": folder}},
                record_timing=False,
                coalesce_streams=True,
            )
            client.execute(cleanup_kc=True)  # ends the kernel, too
    return notebook


def main() -> None:
    for path in [Path(name) for name in sys.argv[1:]] or paths():
        notebook = execute(path)
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        nbformat.write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
