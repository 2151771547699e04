"""The page's server: where it listens, what it allows, how it ends."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .limits import Limits
from .nets import Nets
from .sessions import Sessions
from .workspace import Workspace

if TYPE_CHECKING:
    from fastapi import FastAPI

PORTS = range(7860, 7960)  # the first that is free, as Gradio takes them
LOOPBACK = "127.0.0.1"
_LOCAL = frozenset({"127.0.0.1", "localhost", "[::1]"})
_CONNECTIONS = 768  # a browser has up to six for a page; a process, usually, 1024 descriptors
_SECONDS_TO_TIDY = 1.0


def check_gradio() -> None:
    """Raises ModuleNotFoundError with the extra's name where it is not installed."""
    for package in ("gradio", "uvicorn"):
        if find_spec(package) is None:
            raise ModuleNotFoundError(
                f"{package} is missing (install it with pip install 'deeplab_native[web]')"
            )


def listen(host: str = LOOPBACK, port: int | None = None) -> socket.socket:
    """A socket that is bound; OSError or ValueError where it cannot be.

    port: None for the first of `PORTS` that is free, 0 for any.
    """
    for one in PORTS if port is None else [port]:
        try:
            found = socket.getaddrinfo(host, one, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError:
            raise ValueError(
                f"`host` {host}: no address of this machine (give 127.0.0.1)"
            ) from None
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
            bound.listen(128)
        except OSError as error:
            bound.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise ValueError(
                    f"`host` {host}: no address of this machine (give 127.0.0.1)"
                ) from None
            if error.errno == errno.EACCES:
                raise PermissionError(f"`port` {one}: not allowed (give one above 1023)") from None
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return bound
    if port is not None:
        raise OSError(f"`port` {port}: in use (give another, or none for the first that is free)")
    raise OSError(f"`port`: {PORTS[0]} to {PORTS[-1]} are all in use (give another)")


def make_app(
    nets: Nets, limits: Limits, hosts: frozenset[str] | None = _LOCAL
) -> tuple[Any, Sessions]:
    """The application, for any ASGI server, and the sessions behind it.

    hosts: names that requests may call it by; None: any.
    """
    check_gradio()
    # before it is imported: it would call its makers' server
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gradio
    from fastapi import FastAPI

    from . import page, routes

    sessions = Sessions(limits, lambda: Workspace(limits, nets.label))
    app: FastAPI = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    routes.add_routes(app, sessions, limits)
    blocks = page.build(sessions, nets.names())
    # of every page it keeps the controls as they are there, of 10,000 if nobody says otherwise
    blocks.state_session_capacity = limits.sessions
    blocks.queue(max_size=limits.waiting, default_concurrency_limit=8, api_open=False)
    mounted = gradio.mount_gradio_app(
        app,
        blocks,
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=1,  # its own uploads are not used
        **page.style(),
    )
    return routes.Guard(mounted, hosts), sessions


def serve(
    weights: Sequence[Path] = (),
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    limits: Limits | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves the page until the process is interrupted.

    Args:
        weights: files of more networks than the package's own.
        host: the address to listen at; the default is reached from this machine alone.
        port: None for the first of `PORTS` that is free.
        limits: of what visitors may use; None: the defaults of `Limits`.
        ready: called with the page's address once it can be opened.

    Raises:
        ModuleNotFoundError: Gradio is not installed.
        OSError, ValueError: the port is in use, a file of weights cannot be used.
        KeyboardInterrupt: Ctrl-C, after all is closed.
    """
    check_gradio()
    import uvicorn
    from PIL import Image

    from .protocol import TimedProtocol

    limits = limits or Limits()
    bound = listen(host, port)
    try:
        # Pillow refuses twice as many as this, behind our own check
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, limits.pixels)
        local = bound.getsockname()[0].startswith("127.") or bound.getsockname()[0] == "::1"
        names = _LOCAL | {host.lower(), f"[{host.lower()}]"}
        app, sessions = make_app(Nets(weights), limits, names if local else None)
        sessions.tidy_every(_SECONDS_TO_TIDY)
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{bound.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=1,  # an open page keeps a connection
            server_header=False,
            ws="none",
            http=TimedProtocol,
        )
        if ready is not None:
            ready(address)  # who comes now waits at the socket until the application runs
        try:
            uvicorn.Server(config).run(sockets=[bound])
        finally:
            sessions.end()
    finally:
        bound.close()
