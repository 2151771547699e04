"""Uploads, pictures and downloads of a session, and what guards them; without Gradio."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

fastapi = pytest.importorskip("fastapi", reason="no fastapi: pip install 'deeplab_native[web]'")
httpx = pytest.importorskip("httpx", reason="no httpx: pip install 'deeplab_native[web]'")

from deeplab_native.web.routes import Guard, add_routes
from deeplab_native.web.sessions import Sessions
from python_tests.web.web_cases import LIMITS, photo, photo_file, workspace

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Server:
    """The application, called without a network."""

    def __init__(self, limits=LIMITS):
        self.sessions = Sessions(limits, workspace)
        app = fastapi.FastAPI()
        add_routes(app, self.sessions, limits)

        @app.api_route("/theme.css", methods=["GET", "POST"])
        async def others(request: fastapi.Request):
            return {"bytes": len(await request.body())}

        self.app = Guard(app, HOSTS)

    def __call__(self, method, path, host="localhost:7860", **more):
        async def one():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **more)

        return asyncio.run(one())

    def send(self, secret, content, name="photo.png", what="photo"):
        headers = {"x-name": name}
        return self("POST", f"/upload/{what}/{secret}", content=content, headers=headers)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.sessions.end()


@pytest.fixture
def secret(server):
    return server.sessions.open("page")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "[2001:db8::1]:80"])
def test_another_name_for_this_machine_is_refused(server, host):
    assert server("GET", "/theme.css", host=host).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]:7860"])
def test_its_own_names(server, host):
    found = server("GET", "/theme.css", host=host)
    assert found.status_code == 200
    assert "default-src 'self'" in found.headers["content-security-policy"]


def test_upload_pictures_and_downloads(server, secret, tmp_path):
    assert server.send(secret, photo_file(tmp_path).read_bytes(), "my%20photo.png").json() == {}
    session = server.sessions.get(secret)
    assert session.pending["photo"].name == "my photo.png"
    server.sessions.run(secret, lambda one: one.workspace.set_photo(photo(), "photo.png"))
    found = server("GET", f"/picture/{secret}/photo")
    assert found.headers["content-type"] == "image/jpeg"
    assert found.headers["cache-control"] == "no-store" and found.content[:2] == b"\xff\xd8"
    found = server("GET", f"/download/{secret}/mask.png")
    assert found.status_code == 400 and found.json() == {"error": "result: none yet"}
    for path in ("picture/{}/after", "picture/{}/nothing", "download/{}/nothing"):
        assert server("GET", "/" + path.format(secret)).status_code == 400
    assert server("GET", f"/picture/{secret}/belief?label=x").status_code == 422
    assert server("GET", "/picture/made-up/after").json()["error"].startswith("This page was idle")


def test_uploads_that_are_refused(server, secret):
    found = server.send(secret, b"x" * (LIMITS.upload + 1), "large.png")
    assert found.status_code == 413
    assert found.json()["error"] == "large.png: larger than 1 MB, the most that this page takes"
    assert server.send("made-up", b"x").status_code == 404
    assert server.send(secret, b"x", what="program").status_code == 404
    # as a form of another server's page would send it
    assert server("POST", f"/upload/photo/{secret}", content=b"x").status_code == 400
    assert server.sessions.get(secret).pending == {}


def test_a_request_that_is_no_upload_is_small(server):
    assert server("POST", "/theme.css", content=b"x" * 1000).json() == {"bytes": 1000}
    assert server("POST", "/theme.css", content=b"x" * (5 << 20)).status_code >= 400


def test_slow_uploads_end():
    server = Server(replace(LIMITS, seconds=0.05))

    async def forever():
        yield b"x"
        await asyncio.sleep(60)

    found = server.send(server.sessions.open("page"), forever(), "slow.png")
    assert found.status_code == 408 and found.json() == {"error": "slow.png: sent too slowly"}
    server.sessions.end()


def test_what_takes_too_long_is_an_answer():
    server = Server(replace(LIMITS, seconds=0.05))
    secret = server.sessions.open("page")
    with server.sessions.get(secret).lock:
        found = server("GET", f"/picture/{secret}/photo")
    assert found.status_code == 503 and "no result within 0.05 s" in found.json()["error"]
    server.sessions.end()
