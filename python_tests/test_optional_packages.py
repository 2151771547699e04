"""Where an optional package is missing, tests are skipped with a reason: nothing fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPTIONAL = ["huggingface_hub", "hypothesis", "lightning", "onnx", "onnxruntime", "onnxscript"]
OPTIONAL += ["pydantic", "tensorboard", "torchmetrics", "xdist", "yaml"]
OPTIONAL += ["fastapi", "fsspec", "gradio", "playwright", "pyarrow", "ray", "uvicorn"]
OPTIONAL += ["nbclient", "nbformat", "pycocotools", "supervision", "transformers"]
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({OPTIONAL}))  # None: neither found nor imported
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_without_any_of_them():
    """Every file is collected, and tests that import one when they run are skipped, too."""
    which = ["python_tests", "-k", "test_net_formats and (onnx or command)"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "-p", "no:cacheprovider", *which],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # of hypothesis and xdist
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for path, reason in (
        ("training", "no lightning: pip install"),
        ("ops/test_aspp.py", "could not import 'hypothesis'"),
        ("web/test_server.py", "no gradio: pip install"),
        ("web/test_routes.py", "no fastapi: pip install"),
        ("models/test_net_formats.py", "onnx, onnxscript or onnxruntime is not installed"),
    ):
        assert re.search(rf"SKIPPED .*python_tests/{path}.*: {re.escape(reason)}", done.stdout)
    collected, skipped = re.search(r"collected (\d+) items .*/ (\d+) skipped", done.stdout).groups()
    assert int(collected) > 1000 and int(skipped) > 10  # files


def test_nothing_imports_an_extra_before_it_is_used():
    """What all of the package imports, but for the page's own modules, is in the installation."""
    extras = {"fastapi", "fsspec", "gradio", "jinja2", "lightning", "matplotlib", "mkdocs", "onnx"}
    extras |= {"pandas", "pyarrow", "pycocotools", "ray", "supervision", "transformers", "uvicorn"}
    torch_brings = {"fsspec", "jinja2"}  # some versions of it, at import
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "import deeplab_native.cli.main\n"
            "print(*sys.modules)\n"
            "from deeplab_native import crf, data, interop, jobs, layers, models, viz, weights\n"
            "import deeplab_native.jobs.ray\n"
            "print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    command_line, library = (set(line.split()) for line in done.stdout.splitlines())
    assert not (extras | {"torch", "numpy", "PIL"}) & command_line
    assert not (extras - torch_brings) & library
    assert "torch" in library
