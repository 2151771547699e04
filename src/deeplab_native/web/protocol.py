"""HTTP whose requests have to arrive in time: uvicorn waits for the rest of one for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 15.0
"""From the beginning of a connection, or the end of its last answer, to the next whole header."""


class TimedProtocol(H11Protocol):
    """Closes connections on which no request arrives, or the header of one in drops.

    Otherwise somebody who opens as many as the server takes, and sends nothing, shuts out all
    others. How long the rest of a request may take is the business of `routes.Guard`.
    """

    seconds = SECONDS
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The beginning of a connection."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """The end of an answer."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of all."""
        self._cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Time runs whenever no request is being answered."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
