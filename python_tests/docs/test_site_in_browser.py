"""The documentation site in Chromium: nothing goes out, nothing is wrong, phones can read it."""

from __future__ import annotations

import functools
import http.server
import threading

import pytest

from python_tests.chromium import CHROMIUM, NO_CHROMIUM, PHONE, browser_page

pytest.importorskip("playwright.sync_api")
PAGES = ("", "crf_accuracy/", "explanation/mean_field/", "reference/crf/", "reference/ops/")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(site):
    handler = functools.partial(_Quiet, directory=site.folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(tmp_path):
    with browser_page(tmp_path / "profile", color_scheme="dark") as page:
        yield page


def test_on_a_phone(address, page):
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for path in PAGES:
        page.goto(address + path)
        page.wait_for_load_state("networkidle")
        root = "document.documentElement"
        width = page.evaluate(f"[{root}.scrollWidth, {root}.clientWidth]")
        assert width == [PHONE["width"]] * 2, path
        assert page.evaluate("document.body.dataset.mdColorScheme") == "slate"
    page.locator("label[for=__search]").first.click()
    # what is typed before the index is there finds nothing
    page.locator(".md-search-result__meta", has_text="Type to start").wait_for()
    page.locator(".md-search__input").press_sequentially("permutohedral")
    page.locator(".md-search-result__link").first.wait_for()
    assert said == []
    assert len(asked) > len(PAGES)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


# Nodes of lunr's graph of words: edges "1" to node 2 and "3" to node 4, and "1" to node 234
NODES = """({worker}) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const node = edges => Object.assign(new lunr.TokenSet(), {edges});
    script.src = worker;
    script.onload = () => resolve([{1: {id: 2}, 3: {id: 4}}, {1: {id: 234}}].map(
        edges => node(edges).toString()));
    script.onerror = reject;
    document.head.append(script);
})"""


def test_words_with_digits_are_not_mixed_up(address, page, site):
    (worker,) = site.folder.glob("assets/javascripts/workers/search.*.js")
    page.goto(address)
    one, other = page.evaluate(NODES, {"worker": f"/{worker.relative_to(site.folder).as_posix()}"})
    assert one != other
