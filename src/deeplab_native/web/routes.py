"""Beside Gradio's: uploads, pictures and downloads of a session, and what guards all of them.

Files go neither through Gradio's cache nor its routes, so that nothing of a visitor is on the disk
for longer than it takes to read it, and no answer has a path.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable
from time import monotonic
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from .._errors import one_line
from .._logging import logger
from . import pictures
from .limits import Limits
from .sessions import BusyError, Session, Sessions, Upload
from .view import GONE

_log = logger(__name__)
# Of Gradio's addresses those that the page uses; the others read files of this machine, fetch
# addresses, or tell about the server
_OF_GRADIO = (
    "/assets/",
    "/static/",
    "/gradio_api/heartbeat/",
    "/gradio_api/queue/",
    "/svelte/",
    "/theme.css",
    "/gradio_api/startup-events",
)
_EXACT = (
    "/",
    "/config",
    "/manifest.json",
    "/gradio_api/cancel",
    "/gradio_api/reset",
    "/favicon.ico",
)
_OWN = ("/upload/", "/picture/", "/download/")
_MOST_BODY = 4 << 20  # bytes of a request that is no upload: scribbles are the largest
_MOST_UPLOADS = 2  # of one page at a time: a photograph and its labels
_SECONDS = 30.0  # for such a request to arrive
_SAME_FOR_ALL = ("/assets/", "/static/", "/svelte/", "/theme.css", "/favicon.ico")
_LATER = {"retry-after": "5"}  # seconds
_HEADERS = (
    (
        b"content-security-policy",
        # Gradio makes functions of text; nothing may come from or go to another server
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        b"frame-ancestors 'self'; object-src 'none'; base-uri 'self'; form-action 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def add_routes(app: FastAPI, sessions: Sessions, limits: Limits) -> None:
    """Those of sessions; before Gradio is mounted, which takes all that is left."""

    def asked(secret: str, work: Callable[[Session], Any]) -> Any:
        """What it gives, or an error as a response."""
        try:
            return sessions.run(secret, work)
        except KeyError:
            return JSONResponse({"error": GONE}, 404)
        except TimeoutError as error:
            return JSONResponse({"error": one_line(error)}, 503, _LATER)
        except BusyError as error:
            return JSONResponse({"error": str(error)}, 429, _LATER)
        except (ValueError, MemoryError, RuntimeError) as error:
            return JSONResponse({"error": one_line(error)}, 400)

    @app.post("/upload/{what}/{secret}")
    async def upload(what: str, secret: str, request: Request) -> Response:
        try:
            session = sessions.get(secret)
        except KeyError:
            return JSONResponse({"error": GONE}, 404)
        if what not in ("photo", "labels"):
            return JSONResponse({"error": "upload: expected photo or labels"}, 404)
        # a header of our own: a page of another server cannot send it
        name = unquote(request.headers.get("x-name", ""))
        if not name:
            return JSONResponse({"error": "upload: expected the name of the file"}, 400)
        if session.arriving >= _MOST_UPLOADS:
            return JSONResponse(
                {"error": "upload: wait for those that are on their way"}, 429, _LATER
            )
        session.arriving += 1
        try:
            content = await asyncio.wait_for(_body(request, limits.upload), limits.seconds)
        except asyncio.TimeoutError:  # before Python 3.11 another than the built-in one
            return JSONResponse({"error": f"{Upload(name, b'').name}: sent too slowly"}, 408)
        finally:
            session.arriving -= 1
        if content is None:
            most = f"{limits.upload / (1 << 20):g} MB"
            text = f"{Upload(name, b'').name}: larger than {most}, the most that this page takes"
            return JSONResponse({"error": text}, 413)
        session.pending[what] = Upload(name, content)
        sessions.tidy()
        return JSONResponse({})

    @app.get("/picture/{secret}/{what}")
    def picture(secret: str, what: str, label: int = 0, iteration: int = 0) -> Response:
        def work(session: Session) -> Response:
            content = pictures.picture(session.workspace, what, label, iteration)
            return Response(content, media_type=pictures.JPEG)

        return _unkept(asked(secret, work))

    @app.get("/download/{secret}/{name}")
    def download(secret: str, name: str) -> Response:
        def work(session: Session) -> Response:
            content, kind = pictures.download(session.workspace, name)
            # without a name: the page's link says it
            return Response(content, media_type=kind, headers={"content-disposition": "attachment"})

        return _unkept(asked(secret, work))


def _unkept(response: Response) -> Response:
    response.headers["cache-control"] = "no-store"
    return response


async def _body(request: Request, most: int) -> bytes | None:
    """None where it is larger; no more of it is read then."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            return None
    return bytes(content)


class Guard:
    """Around the whole application: which addresses there are, how large a request may be.

    `hosts` are the names by which the page may be called, without port; None: any. A page of
    another server whose name was made to point here has its own name in the request.
    """

    def __init__(self, app: Any, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, as ASGI says it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no other protocol is spoken: the server closes it
        headers = dict(scope["headers"])
        refused = self._refused(scope["method"], scope["path"], headers)
        if refused is not None:
            await Response(refused[1], refused[0], media_type="text/plain")(scope, receive, send)
            return

        started = False

        async def with_headers(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_HEADERS]
                kept = scope["path"].startswith(_SAME_FOR_ALL)
                if not kept and b"cache-control" not in dict(message["headers"]):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        own = scope["path"].startswith("/upload/")
        try:
            await self._app(scope, receive if own else _limited(receive), with_headers)
        except Exception as error:
            # one line: of requests that Gradio cannot take anybody could fill the disk
            _log.warning("%s %.100r: %s", scope["method"], scope["path"], type(error).__name__)
            _log.debug("", exc_info=True)
            if not started:
                await Response("no answer", 500)(scope, receive, with_headers)

    def _refused(
        self, method: str, path: str, headers: dict[bytes, bytes]
    ) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        before, bracket, after = host.rpartition("]")
        name = f"{before}]" if bracket else after.partition(":")[0]
        if self._hosts is not None and name not in self._hosts:
            return 403, "this name is not one of this server"
        if method not in ("GET", "HEAD") and _is_from_elsewhere(headers, host):
            return 403, "this is sent from the page of another server"
        known = path in _EXACT or path.startswith((*_OF_GRADIO, *_OWN))
        return None if known and ".." not in path else (404, "not found")


def _is_from_elsewhere(headers: dict[bytes, bytes], host: str) -> bool:
    """Whether a browser says that the page of another server sends this; others say nothing."""
    site = headers.get(b"sec-fetch-site")  # also where a proxy has changed the host
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    return bool(origin) and origin.partition("://")[2] != host


def _limited(receive: Any) -> Any:
    """receive(), which pretends that the visitor left where the body is too large or too slow."""
    read, whole = 0, False
    until = monotonic() + _SECONDS

    async def limited() -> Any:
        nonlocal read, whole
        if whole:  # what comes now is that the visitor leaves, whenever that is
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - monotonic()))
        except asyncio.TimeoutError:
            return {"type": "http.disconnect"}
        read += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        return {"type": "http.disconnect"} if read > _MOST_BODY else message

    return limited


mimetypes.add_type("text/javascript", ".js")  # of Gradio's files, where the system has another
