"""A headless Chromium on the page; every request is noted, and everything it complains of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from python_tests.chromium import ARGUMENTS, CHROMIUM, MILLISECONDS


class Tab:
    """One open page.

    Attributes:
        page: Playwright's.
        complaints: errors and warnings of the console, answers above 399.
        elsewhere: addresses that are not the server's.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        page.set_default_timeout(MILLISECONDS)
        page.on("request", self._requested)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("response", self._answered)
        page.goto(address)
        page.wait_for_function("window.deeplabNative?.secret")
        page.wait_for_selector("#dn-w1 input[type=range]")

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.address + "/", "blob:" + self.address, "data:")):
            self.elsewhere.append(request.url)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def example(self) -> None:
        """Takes it, and waits for its result."""
        self.page.get_by_role("button", name="Take the example").click()
        self.page.wait_for_selector(".dn-after[data-address]")

    def picture(self, which: str = ".dn-after") -> str:
        """The address of a picture that is shown: another one once another is."""
        return self.page.locator(which).get_attribute("data-address")

    def wait_for_another(self, last: str, which: str = ".dn-after") -> str:
        """Waits for another picture than that of an address."""
        self.page.wait_for_function(
            "([which, last]) => document.querySelector(which)?.dataset.address !== last",
            arg=[which, last],
        )
        return self.picture(which)

    def wait_for_command(self, part: str) -> None:
        """Waits until the result is that of parameters; slow answers may still be on their way."""
        self.page.wait_for_function(
            "(part) => document.querySelector('.dn-command').textContent.includes(part)", arg=part
        )

    def upload(self, what: str, name: str, content: bytes) -> None:
        files = {"name": name, "mimeType": "image/png", "buffer": content}
        self.page.locator(f"#dn-file-{what}").set_input_files(files)

    def error(self) -> str:
        """Waits for one, and says it."""
        self.page.wait_for_selector(".dn-error:not([hidden])")
        return self.page.inner_text(".dn-error")

    def download(self, name: str) -> bytes:
        """Of the link of that name; once more where a busy Chromium cancels it by itself."""
        for _ in range(2):
            with self.page.expect_download() as waiting:
                self.page.get_by_role("link", name=name).click()
            if waiting.value.failure() != "canceled":
                break
        return Path(waiting.value.path()).read_bytes()

    def stroke(self, *points: tuple[float, float]) -> None:
        """With the mouse; x and y are shares of the photograph's width and height."""
        canvas = self.page.locator(".dn-canvas canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=5)
        self.page.mouse.up()

    def slider(self, name: str) -> Any:
        """One of Gradio's."""
        return self.page.get_by_label(f"range slider for {name}")


@contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """Playwright's; its files are in a folder."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=ARGUMENTS, downloads_path=folder
        )
        yield started
        started.close()


@contextmanager
def tab(started: Any, address: str, **how: Any) -> Iterator[Tab]:
    """A page with a profile of its own; how: as of Playwright's `new_context`."""
    how = {"viewport": {"width": 1280, "height": 900}, "accept_downloads": True, **how}
    context = started.new_context(**how)
    try:
        yield Tab(context.new_page(), address)
    finally:
        context.close()
