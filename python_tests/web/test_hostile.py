"""Visitors that send slowly, too much, from elsewhere, or what another program would run."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

fastapi = pytest.importorskip("fastapi", reason="no fastapi: pip install 'deeplab_native[web]'")
uvicorn = pytest.importorskip("uvicorn", reason="no uvicorn: pip install 'deeplab_native[web]'")

from deeplab_native._images import read_picture
from deeplab_native.web import routes
from deeplab_native.web.limits import Limits, check_labelling, check_photo
from deeplab_native.web.protocol import TimedProtocol
from deeplab_native.web.sessions import _OF_ONE, BusyError, Sessions
from python_tests.trust.hostile_files import postscript
from python_tests.web.test_routes import Server
from python_tests.web.web_cases import LIMITS, photo_file, workspace


@pytest.fixture
def server():
    made = Server()
    yield made
    made.sessions.end()


@pytest.mark.parametrize("first", [b"%!PS-AdoWEBP", b"%!PS....WEBP-Adobe", b"GIF89a..WEBP"])
def test_a_program_that_looks_like_webp(tmp_path, first, monkeypatch):
    """The eighth byte alone says nothing: Pillow gave such a file to Ghostscript."""
    path = tmp_path / "a.webp"
    path.write_bytes(postscript(first))
    for check in (check_photo, check_labelling):
        with pytest.raises(ValueError, match=r"a\.webp: no (photograph|labels)"):
            check(path, Limits())
    with pytest.raises(ValueError, match="not a picture"):
        read_picture(path)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"origin": "http://localhost:7860"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:1234"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxy.example"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:7860"}, 403),
    ],
)
def test_what_the_page_of_another_server_sends(server, headers, status):
    assert server("POST", "/theme.css", headers=headers).status_code == status
    assert server("GET", "/theme.css", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "kept"),
    [("/theme.css", True), ("/gradio_api/queue/data", False), ("/config", False), ("/", False)],
)
def test_no_answer_about_a_visitor_is_kept(server, path, kept):
    found = server("GET", path)
    assert (found.headers.get("cache-control") == "no-store") is not kept


def test_a_page_that_asks_for_too_much(server):
    secret = server.sessions.open("page")
    session = server.sessions.get(secret)
    with session.lock:
        limits = replace(LIMITS, seconds=0.001)
        server.sessions._limits = limits
        for _ in range(_OF_ONE):
            with pytest.raises(TimeoutError):
                server.sessions.run(secret, lambda _: None)
        busy = session.waiting
        session.waiting = _OF_ONE
        found = server("GET", f"/picture/{secret}/photo")
        assert found.status_code == 429 and found.headers["retry-after"] == "5"
        session.waiting = busy
    server.sessions._limits = LIMITS
    server.sessions.run(secret, lambda _: None)
    for _ in range(1000):  # a place is free a moment after the result is there
        if not session.waiting:
            break
        time.sleep(0.01)
    assert session.waiting == 0


def test_one_page_does_not_take_the_turn_of_another():
    sessions = Sessions(LIMITS, workspace)
    one, other = sessions.open("one"), sessions.open("other")
    sessions.get(one).waiting = _OF_ONE
    with pytest.raises(BusyError, match="wait for the answers"):
        sessions.run(one, lambda _: None)
    assert sessions.run(other, lambda _: 7) == 7
    sessions.end()


def test_uploads_of_one_page_at_a_time(server, tmp_path):
    secret = server.sessions.open("page")
    session = server.sessions.get(secret)
    session.arriving = 2
    content = photo_file(tmp_path).read_bytes()
    found = server.send(secret, content)
    assert found.status_code == 429 and found.headers["retry-after"] == "5"
    session.arriving = 1
    assert server.send(secret, content).status_code == 200 and session.arriving == 1
    assert server.send(secret, b"x" * (LIMITS.upload + 1)).status_code == 413
    assert session.arriving == 1


def test_what_is_idle_goes_though_nobody_comes():
    sessions = Sessions(replace(LIMITS, idle=0.01), workspace)
    sessions.open("page")
    sessions.tidy_every(0.02)
    until = time.monotonic() + 30
    while sessions._sessions and time.monotonic() < until:
        time.sleep(0.02)
    assert not sessions._sessions and not sessions._secrets
    sessions.end()


@asynccontextmanager
async def listening(app):
    class Protocol(TimedProtocol):
        seconds = 0.3

    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=Protocol, log_level="error", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield bound.getsockname()[1]
    server.should_exit = True
    await task
    bound.close()


async def hello(scope, receive, send):
    """Takes longer than a header may."""
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("parts", "answers"),
    [
        ([], 0),  # sends nothing
        ([HEAD], 0),
        ([bytes([byte]) for byte in HEAD * 20], 0),  # never the end of the header
        ([HEAD + b"\r\n"], 1),
        ([HEAD + b"\r\n", b"", b"", b"", b"", HEAD], 1),
    ],
)
def test_headers_that_drop_in(parts, answers):
    async def visit():
        async with listening(hello) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            found = asyncio.create_task(reader.read())

            async def trickle():
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(0.05 if len(part) == 1 else 0.2)

            sending = asyncio.create_task(trickle())
            # ended by the server, whatever is still to come
            content = await asyncio.wait_for(found, 30)
            sending.cancel()
            writer.close()
            return content

    assert asyncio.run(visit()).count(b"HTTP/1.1 200") == answers


def test_the_rest_of_a_request_has_its_time(monkeypatch):
    monkeypatch.setattr(routes, "_SECONDS", 0.1)
    seen = []

    async def app(scope, receive, send):
        seen.extend([await receive(), await receive()])

    async def visit():
        scope = {"type": "http", "path": "/gradio_api/queue/join", "method": "POST", "headers": []}
        coming = [{"type": "http.request", "body": b"x", "more_body": True}]

        async def receive():
            if coming:
                return coming.pop()
            await asyncio.sleep(60)

        await routes.Guard(app, None)(scope, receive, None)

    asyncio.run(asyncio.wait_for(visit(), 30))
    assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]


def test_a_fault_is_one_line_of_the_log(caplog):
    """Whatever Gradio raises: an answer without words, and no traceback that fills the disk."""
    app = fastapi.FastAPI()

    @app.get("/theme.css")
    async def fails():
        raise KeyError("/home/me/secret")

    made = Server()
    made.app = routes.Guard(app, None)
    found = made("GET", "/theme.css?a=%1b[31m")
    assert found.status_code == 500 and "secret" not in found.text
    assert caplog.messages == ["GET '/theme.css': KeyError"] and not caplog.records[0].exc_info
    made.sessions.end()
