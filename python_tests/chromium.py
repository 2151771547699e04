"""Chromium for tests of pages: none of its own business goes out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
NO_CHROMIUM = "no chromium: apt-get install chromium"
ARGUMENTS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update""".split()  # noqa: SIM905
PHONE = {"width": 390, "height": 844}
MILLISECONDS = 300_000  # which only a hang exceeds


@contextmanager
def browser_page(profile: Path, **how: Any) -> Iterator[Any]:
    """A page of a new browser, as large as a telephone's; `how` are playwright's options."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=ARGUMENTS, **{"viewport": PHONE, **how}
        )
        context.set_default_timeout(MILLISECONDS)
        yield context.pages[0]
        context.close()
