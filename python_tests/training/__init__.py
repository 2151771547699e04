"""Tests of training: skipped, all of them, where a package of the extra `train` is missing."""

from importlib.util import find_spec

import pytest

for name in ("lightning", "pydantic", "tensorboard", "yaml"):
    if find_spec(name) is None:  # to import Lightning takes seconds
        pytest.skip(f"no {name}: pip install '.[train]'", allow_module_level=True)
