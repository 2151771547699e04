"""The server: what it answers, what it refuses, where it listens, how it ends."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sys
import threading
from importlib.util import find_spec

import httpx
import numpy as np
import pytest
from PIL import Image

if find_spec("gradio") is None:
    pytest.skip("no gradio: pip install 'deeplab_native[web]'", allow_module_level=True)

from deeplab_native import CRFParams
from deeplab_native.models import predict
from deeplab_native.web import server as module
from deeplab_native.web.limits import Limits
from deeplab_native.web.nets import Nets
from deeplab_native.web.server import check_gradio, listen
from deeplab_native.weights import EMBEDDED, EMBEDDED_SIDE, load_model
from python_tests.web.server_cases import Visitor, serving
from python_tests.web.web_cases import empty_png, photo


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, "--max-upload", "1", "--threads", "1") as running:
        yield running
        code, out, err = running.stop()
        assert (code, out) == (130, "") and err.endswith("stopped\n")
        assert not list(folder.iterdir())


@pytest.fixture
def visitor(server, request):
    made = Visitor(server.address, request.node.originalname)
    yield made
    made.http.close()


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_the_page_and_nothing_from_elsewhere(visitor):
    found, config = visitor.http.get("/"), visitor.http.get("/config")
    assert found.status_code == 200 and "deeplab_native" in found.text
    policy = found.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "server" not in found.headers
    assert config.json()["analytics_enabled"] is False
    here = (os.getcwd(), *sys.path, os.path.expanduser("~"), sys.prefix)
    for text in (found.text, config.text):
        assert not [path for path in here if len(path) > 1 and path in text]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=pyproject.toml",
        "/file=/etc/passwd",
        "/gradio_api/proxy=https://example.com/",
        "/gradio_api/upload",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/vibe-code/",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/deep_link",
        "/monitoring/summary",
        "/docs",
        "/openapi.json",
        "/static/%2e%2e/%2e%2e/routes.py",
        "/assets/%2e%2e%2f%2e%2e%2f%2e%2e%2froutes.py",
        "/svelte/../../etc/passwd",
        "/.git/config",
    ],
)
def test_what_the_page_does_not_need_is_not_there(server, path):
    for method in ("GET", "POST"):
        assert httpx.request(method, server.address + path).status_code in (404, 405)


def test_uploads_are_answered_and_the_server_goes_on(visitor):
    for name, content, complaint in (
        ("photo.jpg", b"some text, no picture", "photo.jpg: no photograph, but text that begins"),
        ("large.png", empty_png(10_000, 10_000), "large.png: 10000 x 10000 are 100.0 megapixels"),
        ("cut.png", png(photo())[:800], "cut.png: damaged or cut off"),
    ):
        assert visitor.upload(name, content).status_code == 200
        shown = visitor.refine()
        assert complaint in shown["error"] and "/tmp" not in str(shown)
    assert visitor.upload("huge.png", b"x" * (1 << 21)).status_code == 413
    assert "error" not in visitor.refine()
    visitor.upload("photo.png", png(photo()))
    shown = visitor.refine()
    assert shown["photo"]["name"] == "photo.png" and shown["version"] == 1
    for wrong in ({"iterations": 10**6}, {"w1": -1}, {"mode": "magic"}, {"preset": 3}):
        shown = visitor.refine(**wrong)
        assert "refused" in shown or shown.get("version") == 1
    assert visitor.refine()["version"] == 1


def test_no_answer_has_a_path_of_the_server(visitor, tmp_path):
    """Whatever is asked for, and however it fails."""
    secret, http = visitor.secret, visitor.http
    for name, content in {
        "a.png": b"x",
        "b.npy": b"\x93NUMPY",
        "c.npz": b"PK\3\4" + bytes(60),
    }.items():
        visitor.upload(name, content, "photo" if name == "a.png" else "labels")
    found = [str(visitor.refine(mode="A file"))]
    join = "/gradio_api/queue/join"
    for body in (
        b"", b"{", b"[]", b"null", b'{"data": 1}', b'{"data": [], "fn_index": 999}',
        b'{"data": [{"path": "/etc/passwd"}], "fn_index": 0, "session_hash": "x"}',
        b'{"data": [], "fn_index": -1, "session_hash": "../.."}', b"\xff" * 100,
    ):  # fmt: skip
        found.append(
            http.post(join, content=body, headers={"content-type": "application/json"}).text
        )
    requests = [
        *[("GET", f"/{what}/{secret}/{name}") for what in ("picture", "download") for name in "ab"],
        *[("GET", f"/picture/{secret}/belief?label={label}") for label in ("x", "-1", "9" * 400)],
        ("GET", f"/picture/{secret}/belief?iteration=-1"),
        ("GET", "/picture/%2e%2e/%2e%2e"),
        ("GET", "/assets/none.js"),
        ("GET", "/static/none"),
        ("GET", "/svelte/none.js"),
        ("GET", "/gradio_api/queue/data"),
        ("GET", "/gradio_api/heartbeat/"),
        ("POST", "/gradio_api/cancel"),
        ("POST", "/gradio_api/reset"),
        ("PUT", f"/upload/photo/{secret}"),
        ("DELETE", "/"),
        ("POST", "/theme.css"),
    ]
    for method, path in requests:
        answer = http.request(method, path)
        assert answer.status_code >= 400 or path == "/theme.css", (method, path)
        found += [answer.text, str(answer.headers)]
    here = {os.getcwd(), os.path.expanduser("~"), sys.prefix, *sys.path, "/tmp", "Traceback"}
    here |= {os.path.dirname(module.__file__), "site-packages", 'File "'}
    for text in found:
        assert not [word for word in here if len(word) > 1 and word in text], text


def test_several_visitors_do_not_mix(server):
    """Each has a photograph of its own size, and gets the library's labels of it."""
    sizes, masks = [(40, 60), (56, 48), (64, 64)], {}

    def visit(size):
        visitor = Visitor(server.address, f"visitor {size}")
        visitor.upload("photo.png", png(photo(*size)))
        for w1 in (1, 2, 3):
            shown = visitor.refine(w1=w1)
        assert (shown["photo"]["height"], shown["photo"]["width"]) == size
        masks[size] = visitor.get("download/mask.png").content
        visitor.http.close()

    threads = [threading.Thread(target=visit, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    net, params = load_model(EMBEDDED), CRFParams(3, 70, 4, 3, 3)
    for size in sizes:
        expected = predict(net, photo(*size), crf=params, longest_side=EMBEDDED_SIDE).labels
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(masks[size]))), expected.numpy())


def test_what_gradio_keeps_of_a_page_is_bounded_as_the_pages_are():
    """It has a copy of all controls for each, some tens of kB, of 10,000 pages by default."""

    async def made():  # within a loop: Gradio would open one, and leave it open
        return module.make_app(Nets(), Limits(sessions=3))

    application, sessions = asyncio.run(made())
    of_gradio = application._app.routes[-1].app.state_holder
    for number in range(8):
        assert of_gradio[f"page {number}"]
    assert list(of_gradio.session_data) == ["page 5", "page 6", "page 7"]
    sessions.end()


def test_a_browser_has_all_its_connections_to_each_page():
    """Six to a server, kept for a while; more than there are allowed would be a broken page."""
    usual = 1024  # descriptors of a process, where nobody asked for more
    assert 6 * Limits().sessions <= module._CONNECTIONS < usual - 200


def test_ports():
    first = listen("127.0.0.1")
    number = first.getsockname()[1]
    assert number in module.PORTS
    with listen("127.0.0.1") as second:
        assert second.getsockname()[1] > number
    with pytest.raises(OSError, match=rf"`port` {number}: in use \(give another"):
        listen("127.0.0.1", number)
    first.close()
    with listen("127.0.0.1", 0) as any_of_them:
        assert any_of_them.getsockname()[1] > 0
    with pytest.raises(ValueError, match=r"`host` 203\.0\.113\.7: no address of this machine"):
        listen("203.0.113.7", 0)


def test_all_ports_are_in_use(monkeypatch):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(module, "PORTS", range(port, port + 1))
        with pytest.raises(OSError, match=rf"`port`: {port} to {port} are all in use"):
            listen("127.0.0.1")


def test_the_command_says_what_is_wrong(run, tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--port", port)
    assert done.code == 1 and done.err.startswith(f"error: --port {port}: in use (give another")
    assert run("serve", "--port", 70000).code == 2
    assert run("serve", "--max-upload", 0).code == 2
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    done = run("serve", "--port", 0, "--weights", tmp_path / "w.safetensors")
    assert done.code == 1 and "w.safetensors" in done.err
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ModuleNotFoundError):
        check_gradio()
    done = run("serve")
    assert done.code == 1 and done.err.count("\n") == 1
    assert "gradio is missing (install it with pip install 'deeplab_native[web]')" in done.err
