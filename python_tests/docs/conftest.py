"""The documentation site, built once for all tests of a process."""

from __future__ import annotations

import pytest

from python_tests.docs.documents import ROOT
from python_tests.docs.site_pages import Site, build


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    for needed in ("mkdocs", "material", "mkdocstrings", "griffe"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(folder, ROOT / "mkdocs.yml")
    assert done.returncode == 0, done.stderr + done.stdout
    return Site(folder)
