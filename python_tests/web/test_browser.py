"""The page in a real browser: by mouse, by keyboard, small, and with files that are none."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from python_tests.chromium import CHROMIUM, NO_CHROMIUM
from python_tests.web.browser_cases import browser, tab

if CHROMIUM is None:
    pytest.skip(NO_CHROMIUM, allow_module_level=True)
pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
if find_spec("gradio") is None:
    pytest.skip("no gradio: pip install 'deeplab_native[web]'", allow_module_level=True)

from deeplab_native import CRFParams, refine
from deeplab_native.demo.photo import photograph
from deeplab_native.models import predict
from deeplab_native.weights import EMBEDDED, EMBEDDED_SIDE, load_model
from python_tests.web.server_cases import serving
from python_tests.web.web_cases import empty_png, photo


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), "--threads", "1") as running:
        yield running


@pytest.fixture(autouse=True)
def as_many_threads_as_the_server(set_threads):
    """A net's scores have other last bits with more, and a label here and there is another."""
    set_threads(1)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.fixture
def open_tab(server, started):
    """Opens the page; in the end nothing was asked elsewhere, and nothing complained of."""
    opened = []

    def open_(**how):
        one = tab(started, server.address, **how)
        opened.append((one, one.__enter__()))
        return opened[-1][1]

    yield open_
    for context, page in opened:
        context.__exit__(None, None, None)
        assert page.elsewhere == [] and page.complaints == []


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def labels_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "P"
        return np.asarray(image)


def of_embedded(pixels, params, iterations=10):
    net = load_model(EMBEDDED)
    how = {"crf": params, "iterations": iterations, "longest_side": EMBEDDED_SIDE}
    return predict(net, pixels, **how).labels.numpy()


def test_the_example_a_slider_the_divider_and_downloads(open_tab):
    one = open_tab()
    one.example()
    assert "ms for the CRF of 512 × 600 pixels and 7 labels" in one.page.inner_text(".dn-facts")
    assert "person" in one.page.inner_text(".dn-legend")
    mask = labels_of(one.download("Mask"))
    assert np.array_equal(mask, of_embedded(photograph(), CRFParams(5, 70, 4, 3, 3)))

    # the slider, dragged
    before, shown = one.picture(), one.page.locator(".dn-after").screenshot()
    box = one.slider("sigma_alpha").bounding_box()
    at = box["y"] + box["height"] / 2
    one.page.mouse.move(box["x"] + box["width"] * 0.43, at)
    one.page.mouse.down()
    one.page.mouse.move(box["x"] + 3, at, steps=12)
    last = one.wait_for_another(before)  # while it is held
    one.page.mouse.up()
    assert last != before
    alpha = one.page.get_by_label("number input for sigma_alpha").input_value()
    one.wait_for_command(f"--sigma-alpha {alpha} ")
    assert float(alpha) < 20 and one.page.locator(".dn-after").screenshot() != shown
    mask = labels_of(one.download("Mask"))
    assert np.array_equal(mask, of_embedded(photograph(), CRFParams(5, float(alpha), 4, 3, 3)))
    with np.load(io.BytesIO(one.download("Probabilities"))) as arrays:
        assert np.array_equal(arrays["probabilities"].argmax(0), mask)
    with Image.open(io.BytesIO(one.download("Overlay"))) as over:
        assert over.size == (512, 600)
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(one.download("Photograph")))), photograph()
    )

    # the divider, dragged
    where = one.page.locator(".dn-line").bounding_box()["x"]
    box = one.page.locator(".dn-compare").bounding_box()
    one.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    one.page.mouse.down()
    one.page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 60, steps=4)
    one.page.mouse.up()
    moved = one.page.locator(".dn-line").bounding_box()["x"]
    assert moved - where == pytest.approx(-0.3 * box["width"], abs=8)


def test_score_and_belief_maps(open_tab):
    one = open_tab()
    one.example()
    assert one.page.locator(".dn-map").is_hidden()
    one.page.get_by_label("Score map").check()
    one.page.wait_for_selector(".dn-map img[data-address]")
    score = one.picture(".dn-map img")
    assert "label=5" in score  # the largest but the background: the person
    one.page.get_by_label("Beliefs").check()
    last = one.wait_for_another(score, ".dn-map img")
    assert "iteration=10" in last
    shown = one.page.locator(".dn-map img").screenshot()
    one.page.locator(".dn-iteration").fill("0")
    first = one.wait_for_another(last, ".dn-map img")
    assert "iteration=0" in first and one.page.locator(".dn-map img").screenshot() != shown
    one.page.locator(".dn-which").select_option("background")
    assert "label=0" in one.wait_for_another(first, ".dn-map img")


def test_published_values(open_tab):
    one = open_tab()
    one.example()
    one.page.get_by_label("Values").click()
    one.page.get_by_role("option", name="pydensecrf").click()
    one.wait_for_command("--w1 10 --sigma-alpha 80 --sigma-beta 13 --w2 3 --sigma-gamma 3 ")


def test_scribbles(open_tab):
    one = open_tab()
    pixels = photo(240, 320)
    one.upload("photo", "mine.png", png(pixels))
    one.page.wait_for_selector(".dn-after[data-address]")
    before = one.picture()
    one.page.get_by_label("Scribbles").check()
    one.page.wait_for_selector(".dn-canvas canvas")
    one.page.wait_for_function("document.querySelector('.dn-canvas img').naturalWidth === 320")
    one.page.get_by_label("Name of label 1").fill("bright")
    one.stroke((0.8, 0.2), (0.75, 0.7))
    one.page.get_by_label("Paint background").check()
    one.stroke((0.2, 0.2), (0.25, 0.8))
    one.wait_for_another(before)
    one.page.wait_for_function(
        """() => ['bright', 'background'].every(
          (name) => document.querySelector('.dn-legend').innerText.includes(name))"""
    )
    one.wait_for_command("--confidence 0.99 --w1 10 ")
    drawn = labels_of(one.download("Scribbles"))
    assert drawn.shape == (240, 320) and {*np.unique(drawn)} == {0, 1, 255}
    assert drawn[48:190, 240:].min() == 1 and drawn[60, 64] == 0
    mask = labels_of(one.download("Mask"))
    params = CRFParams(10, 80, 13, 3, 3)
    assert np.array_equal(mask, refine(pixels, drawn, confidence=0.99, params=params))
    assert (mask[:, 165:] == 1).mean() > 0.95 and (mask[:, :155] == 0).mean() > 0.95

    # what is painted survives a look at the network's labels
    one.page.get_by_label("A network").check()
    one.wait_for_command("segment mine.png")
    one.page.get_by_label("Scribbles").check()
    one.wait_for_command("crf mine.png labelling.png")
    assert np.array_equal(labels_of(one.download("Scribbles")), drawn)
    one.page.get_by_role("button", name="Add a label").click()
    assert one.page.get_by_label("Paint object 2").is_checked()
    one.page.get_by_role("button", name="Undo").click()
    one.page.wait_for_function("document.querySelector('.dn-notes').innerText.includes('second')")


def test_a_file_of_labels(open_tab):
    one = open_tab()
    pixels, labels = photo(80, 100), np.zeros((80, 100), np.uint8)
    labels[:, 40:] = 1
    one.upload("photo", "mine.png", png(pixels))
    one.page.wait_for_selector(".dn-after[data-address]")
    one.page.get_by_label("A file").check()
    one.page.wait_for_selector("#dn-file-labels", state="attached")
    last = one.picture()
    one.upload("labels", "rough.png", png(labels * 255))
    one.wait_for_another(last)
    assert "binary mask" in one.page.inner_text(".dn-notes")
    expected = refine(pixels, labels * 255, params=CRFParams(5, 70, 4, 3, 3)) // 255
    assert np.array_equal(labels_of(one.download("Mask")), expected)
    assert "rough.png" in one.page.locator(".dn-command").text_content()


def test_files_that_are_none(open_tab):
    one = open_tab()
    whole = png(photo(240, 320))
    jpeg = io.BytesIO()
    Image.fromarray(photo(240, 320)).save(jpeg, "JPEG")
    for name, content, complaint in (
        ("photo.jpg", b"this is text", "photo.jpg: no photograph, but text that begins with"),
        ("huge.png", empty_png(10_000, 10_000), "huge.png: 10000 x 10000 are 100.0 megapixels"),
        ("cut.jpg", jpeg.getvalue()[:2000], "cut.jpg: damaged or cut off"),
        ("<img src=x onerror=alert(1)>.png", b"\x00", "<img src=x onerror=alert(1)>.png: no photo"),
    ):
        one.upload("photo", name, content)
        assert complaint in one.error()
        assert one.page.locator(".dn-there").is_hidden()
    one.upload("photo", "good.png", whole)
    one.page.wait_for_selector(".dn-after[data-address]")
    one.page.wait_for_selector(".dn-error", state="hidden")
    one.upload("photo", "photo.jpg", b"this is text")
    assert "no photograph" in one.error()
    assert one.page.locator(".dn-after").is_visible()  # the last result stays


def test_by_keyboard_alone(open_tab):
    one = open_tab()
    page, keys = one.page, one.page.keyboard

    def focus(selector: str) -> None:
        """By the tab key alone; whatever has the focus shows it, and has a name."""
        for _ in range(60):
            keys.press("Tab")
            assert page.evaluate(_FOCUS_IS_SEEN), page.evaluate("document.activeElement.outerHTML")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} is not reached")

    focus("#dn-file-photo")
    focus("#dn-example")
    keys.press("Enter")
    page.wait_for_selector(".dn-after[data-address]")
    focus("#dn-w1 input[type=range]")
    last = one.picture()
    keys.press("ArrowRight")
    one.wait_for_another(last)
    one.wait_for_command("--w1 5.5 ")
    focus(".dn-divider")
    keys.press("End")
    assert page.evaluate("document.querySelector('.dn-divider').value") == "100"
    focus(".dn-files a")

    # scribbles, too
    page.get_by_label("Scribbles").focus()
    keys.press("Space")
    page.wait_for_selector(".dn-canvas canvas")
    focus(".dn-canvas canvas")
    last = one.picture()
    for key in (" ", *["ArrowDown"] * 4, " "):
        keys.press(key)
    one.wait_for_another(last)


# a name for screen readers, and something around it that a focus changes
_FOCUS_IS_SEEN = """() => {
  const it = document.activeElement;
  if (it === document.body) return true;
  const label = it.labels?.[0] ?? document.getElementById(it.getAttribute('aria-labelledby'));
  const name = it.ariaLabel || label?.innerText || it.innerText || it.alt || it.title;
  const around = [it, it.nextElementSibling, it.closest('label'), it.closest('.wrap'),
    it.closest('figure')?.querySelector('.dn-line')];
  const seen = around.some((one) => one && (getComputedStyle(one).outlineStyle !== 'none' ||
    getComputedStyle(one).boxShadow !== 'none'));
  return Boolean(name?.trim()) && seen;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone(open_tab, scheme):
    how = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    one = open_tab(color_scheme=scheme, **how)
    one.example()
    one.page.get_by_label("Scribbles").check()
    one.page.wait_for_selector(".dn-canvas canvas")
    one.page.locator(".dn-code summary").click()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 390
    for selector in (
        "#dn-example", ".dn-canvas canvas", ".dn-add", ".dn-clear", "#dn-w1 input[type=range]",
        "#dn-iterations input[type=range]", ".dn-compare", ".dn-files a", ".dn-python",
    ):  # fmt: skip
        place = one.page.locator(selector).first
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        if selector != ".dn-python":  # which scrolls by itself
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] > 4
    dark = one.page.evaluate("document.body.classList.contains('dark')")
    assert dark == (scheme == "dark")
