#!/usr/bin/env bash
# Types: mypy over the package, as pyproject.toml says. It installs mypy into the active environment,
# in which the package is installed with its extra `test`, for the libraries' types.
# (python_tests/native/test_stubs.py holds the native module's stub against the module.)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pip install --quiet mypy==2.4.1 types-PyYAML==6.0.12.20261122
mypy
