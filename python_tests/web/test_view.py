"""What the page is told: results, files, recipes that give the same, and errors in plain words."""

from __future__ import annotations

import io
import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deeplab_native import viz
from deeplab_native.demo.photo import photograph
from deeplab_native.web import pictures
from deeplab_native.web.nets import EMBEDDED_NAME, Nets
from deeplab_native.web.recipes import command, python_code
from deeplab_native.web.sessions import Sessions, Upload
from deeplab_native.web.view import GONE, answer, take_example
from deeplab_native.web.workspace import Workspace
from deeplab_native.weights import EMBEDDED, load_model
from python_tests.web.web_cases import DRAWN, LIMITS, asked, empty_png, photo, scores, workspace


class Page:
    """What a browser does."""

    def __init__(self, limits=LIMITS, net=None):
        new = workspace if net is None else lambda: Workspace(limits, net)
        self.sessions = Sessions(limits, new)
        self.secret = self.sessions.open("page")

    def upload(self, what, name, content):
        self.sessions.get(self.secret).pending[what] = Upload(name, content)

    def ask(self, mode="network", **changes):
        shown = answer(self.sessions, self.secret, asked(mode, **changes))
        return json.loads(json.dumps(shown, allow_nan=False))

    def run(self, work):
        return self.sessions.run(self.secret, lambda session: work(session.workspace))


@pytest.fixture
def page():
    made = Page()
    yield made
    made.sessions.end()


def png(pixels=None, mode="RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo() if pixels is None else pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def npy(values=None) -> bytes:
    file = io.BytesIO()
    np.save(file, scores() if values is None else values)
    return file.getvalue()


def test_a_photograph_and_its_result(page):
    assert page.ask() == {"secret": page.secret}  # nothing yet is no error
    page.upload("photo", "photo.png", png())
    shown = page.ask()
    assert "error" not in shown
    assert shown["photo"] == {
        "name": "photo.png", "number": 1, "height": 40, "width": 60, "copy": None,
    }  # fmt: skip
    assert shown["version"] == 1 and shown["mode"] == "network" and shown["iterations"] == 5
    assert [label["name"] for label in shown["labels"]] == ["left", "right", "label 2"]
    assert shown["labels"][1]["colour"] == "#800000"
    for when in ("before", "after"):
        assert sum(label[when] for label in shown["labels"]) == pytest.approx(1)
    assert 0 < shown["changed"] < 1 and shown["notes"] == []
    assert page.ask(iterations=6)["version"] == 2


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("photo.jpg", b"no picture at all", "photo.jpg: no photograph, but text that begins"),
        ("photo.jpg", png()[:900], "photo.jpg: damaged or cut off"),
        ("big.png", empty_png(10_000, 10_000), "big.png: 10000 x 10000 are 100.0 megapixels"),
        ("<b>.jpg", b"", "<b>.jpg: no photograph, but empty"),
    ],
)
def test_the_error_is_shown_and_the_last_result_stays(page, name, content, complaint):
    page.upload("photo", "photo.png", png())
    page.ask()
    page.upload("photo", name, content)
    shown = page.ask()
    assert complaint in shown["error"] and "/" not in shown["error"].replace(" / ", "")
    assert shown["photo"]["name"] == "photo.png"
    after = page.ask()  # and is shown once
    assert "error" not in after and after["version"] == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"values": (4.0, 0.0, 13.0, 3.0, 3.0)}, "sigma_alpha: expected a positive"),
        ({"values": (float("nan"), 20.0, 13.0, 3.0, 3.0)}, "w1: expected a finite number"),
        ({"values": (4.0, 20.0)}, "values: expected the five of the CRF, got 2"),
        ({"values": ("a", 20.0, 13.0, 3.0, 3.0)}, "could not convert"),
        ({"iterations": -1}, "iterations"),
        ({"iterations": float("nan")}, "NaN"),
        ({"iterations": 1e6}, "iterations: expected at most"),
        ({"net": "none"}, "network 'none'"),
        ({"mode": "magic"}, "labelling: expected one of"),
        ({"mode": "scribbles", "drawn": {"strokes": 7}}, "scribbles: not what the page sends"),
        ({"mode": "scribbles", "drawn": DRAWN, "confidence": 2}, "confidence"),
    ],
)
def test_what_the_controls_cannot_say(page, changes, complaint):
    page.upload("photo", "photo.png", png())
    assert complaint in page.ask(**changes)["error"]
    assert "error" not in page.ask()


def test_nothing_drawn_or_given_yet_is_no_error(page):
    page.upload("photo", "photo.png", png())
    for mode in ("scribbles", "file"):
        shown = page.ask(mode, drawn={"labels": DRAWN["labels"], "strokes": []})
        assert "error" not in shown and "version" not in shown and shown["photo"]
    one = {**DRAWN, "strokes": DRAWN["strokes"][:1]}
    assert "paint with a second label" in page.ask("scribbles", drawn=one)["notes"][0]
    assert page.ask("scribbles")["notes"] == []
    page.upload("labels", "scores.npy", npy())
    assert page.ask("file")["notes"] == ["logits (recognised)"]
    page.upload("labels", "odd.npy", npy(scores(7, 9)))
    error = page.ask("file")["error"]
    assert error.startswith("odd.npy: ") and "match for the image" in error


def test_what_was_painted_on_the_last_photograph_is_not_of_this_one(page):
    page.upload("photo", "photo.png", png())
    assert page.ask("scribbles", drawn={**DRAWN, "photo": 1})["version"] == 1
    page.upload("photo", "other.png", png())
    shown = page.ask("scribbles", drawn={**DRAWN, "photo": 1})
    assert "version" not in shown and "error" not in shown and shown["photo"]["number"] == 2
    assert page.ask("scribbles", drawn={**DRAWN, "photo": 2})["version"] == 2


def test_a_session_that_is_gone(page):
    page.sessions.close("page")
    assert page.ask() == {"secret": page.secret, "error": GONE, "gone": True}
    take_example(page.sessions, page.secret, "a.png", photo())


def test_an_answer_that_takes_too_long(monkeypatch):
    made = Page(replace(LIMITS, seconds=0.01))
    monkeypatch.setattr(Workspace, "open_photo", lambda *_: __import__("time").sleep(0.2))
    made.upload("photo", "photo.png", png())
    assert "no result within 0.01 s" in made.ask()["error"]
    made.sessions.end()


def test_a_large_photograph_is_said_to_be_a_copy(page):
    page.upload("photo", "large.jpg", png(photo(200, 300)))
    shown = page.ask()
    assert shown["photo"]["copy"] == "large_122x82.png"
    assert "copy of 122 x 82 pixels" in shown["notes"][0] and "300 x 200" in shown["notes"][0]


def test_pictures_and_files(page, tmp_path):
    with pytest.raises(ValueError, match=r"photograph: none yet"):
        page.run(lambda space: pictures.picture(space, "photo"))
    page.upload("photo", "photo.png", png())
    page.ask("scribbles")
    for what in ("photo", "before", "after", "score", "belief"):
        content = page.run(lambda space, what=what: pictures.picture(space, what, 1, 3))
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (60, 40) and image.format == "JPEG"
            ink = np.asarray(image).astype(int)[20, 8]
        if what == "before":
            assert ink[2] > ink[0] + 100  # the scribble of the first label is seen, and is blue
    with pytest.raises(ValueError, match=r"expected photo, before"):
        page.run(lambda space: pictures.picture(space, "../secret"))
    refined = page.run(lambda space: space.refined)
    for name in pictures.FILES:
        content, _ = page.run(lambda space, name=name: pictures.download(space, name))
        (tmp_path / name).write_bytes(content)
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P" and np.array_equal(np.asarray(mask), refined.after)
        assert mask.getpalette()[:6] == [0, 0, 255, 255, 0, 0]
    with Image.open(tmp_path / "labelling.png") as mask:
        assert np.array_equal(np.asarray(mask), refined.before)
    with Image.open(tmp_path / "overlay.png") as over:
        colours = Image.open(tmp_path / "mask.png").getpalette()
        palette = np.array(colours, np.uint8).reshape(-1, 3)
        assert np.array_equal(np.asarray(over), viz.overlay(photo(), refined.after, palette))
    with np.load(tmp_path / "probabilities.npz") as arrays:
        assert np.array_equal(arrays["probabilities"], refined.q.numpy())
    page.ask()
    for name in ("labelling.png", "../mask.png"):
        with pytest.raises(ValueError, match=r"expected photo.png, mask.png"):
            page.run(lambda space, name=name: pictures.download(space, name))


@pytest.fixture
def in_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mode", ["scribbles", "scores.npy", "scores.npz", "labels.png"])
def test_the_recipes_give_the_same_mask(page, in_files, run, mode):
    page.upload("photo", "my photo.png", png())
    if mode != "scribbles":
        content = png(scores().argmax(0).astype(np.uint8), "L") if "png" in mode else npy()
        if mode.endswith("npz"):
            file = io.BytesIO()
            np.savez(file, a=scores())
            content = file.getvalue()
        page.upload("labels", mode, content)
        (in_files / mode).write_bytes(content)
    shown = page.ask("scribbles" if mode == "scribbles" else "file", confidence=0.8)
    (in_files / "my photo.png").write_bytes(png())
    if mode == "scribbles":
        content, _ = page.run(lambda space: pictures.download(space, "labelling.png"))
        (in_files / "labelling.png").write_bytes(content)
    expected = page.run(lambda space: space.refined.after)
    names: dict = {}
    exec(shown["python"], names)
    assert np.array_equal(np.asarray(names["labels"]), expected)
    words = shlex.split(shown["command"])
    assert words[:3] == ["deeplab-native", "crf", "my photo.png"]
    assert run(*words[1:]).code == 0
    assert np.array_equal(np.asarray(Image.open("mask.png")), expected)


def test_the_recipes_of_the_embedded_network_give_the_same_mask(in_files, run):
    made = Page(replace(LIMITS, worked_on=1 << 20, values=1 << 24), Nets().label)
    pixels = photograph()[::2, ::2]
    made.upload("photo", "photo.png", png(pixels))
    shown = made.ask(net=EMBEDDED_NAME)
    expected = made.run(lambda space: space.refined.after)
    made.sessions.end()
    (in_files / "photo.png").write_bytes(png(pixels))
    names: dict = {}
    exec(shown["python"], names)
    assert np.array_equal(names["labels"].numpy(), expected)
    assert (expected == 5).mean() > 0.3  # the person
    assert run(*shlex.split(shown["command"])[1:]).code == 0
    assert np.array_equal(np.asarray(Image.open("segmented/photo.png")), expected)


def test_a_name_that_looks_like_an_option(page):
    page.upload("photo", "--overwrite $(id).png", png())
    assert "crf './--overwrite $(id).png' labelling.png" in page.ask("scribbles")["command"]


def test_recipes_need_a_result():
    for recipe in (python_code, command):
        with pytest.raises(ValueError, match=r"result: none yet"):
            recipe(workspace())


def test_networks_of_files(tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(EMBEDDED.read_bytes())
    nets = Nets([file])
    assert nets.names() == [EMBEDDED_NAME, "mine.safetensors"]
    made = nets.label("mine.safetensors", photo())
    assert made.file == "mine.safetensors" and made.given.values.shape == (7, 40, 60)
    assert made.names == load_model(EMBEDDED).class_names
    with pytest.raises(ValueError, match=r"expected one of Embedded.*, mine\.safetensors"):
        nets.label("/etc/passwd", photo())
    with pytest.raises(ValueError, match=r"two files of this name"):
        Nets([file, file])
