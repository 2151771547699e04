"""Draws the picture of docs/how_to/web_page.md.

python -m python_tests.web.screenshot [FILE.jpg]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from python_tests.web.browser_cases import Tab, browser, tab
from python_tests.web.server_cases import serving

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "web_page.jpg"
_WIDTH, _QUALITY = 1280, 82


def scribble(one: Tab) -> None:
    """Commodore Hopper and what is behind her."""
    one.page.get_by_label("Scribbles").check()
    one.page.wait_for_selector(".dn-canvas canvas")
    one.page.wait_for_function("document.querySelector('.dn-canvas img').naturalWidth > 0")
    one.page.get_by_label("Name of label 1").fill("person")
    last = one.picture()
    one.stroke((0.5, 0.14), (0.48, 0.35), (0.5, 0.6), (0.3, 0.9))
    one.page.get_by_label("Paint background").check()
    one.stroke((0.1, 0.1), (0.12, 0.5))
    one.stroke((0.9, 0.1), (0.92, 0.6))
    one.wait_for_another(last)
    one.page.wait_for_function("document.querySelector('.dn-legend').innerText.includes('person')")
    one.page.wait_for_timeout(3000)  # the last of several


def main(path: Path) -> None:
    """Writes the picture."""
    size = {"width": _WIDTH, "height": 900}
    with (
        TemporaryDirectory() as folder,
        serving(folder) as server,
        browser(Path(folder)) as started,
        tab(started, server.address, viewport=size) as one,
    ):
        one.example()
        scribble(one)
        one.page.evaluate("scrollTo(0, 0)")
        picture = Image.open(io.BytesIO(one.page.screenshot(full_page=True))).convert("RGB")
    picture.save(path, quality=_QUALITY, optimize=True)
    print(path, picture.size, path.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE)
