"""Filters over the positions of an image's pixels on a CUDA device, kept for the next image.

Their lattice, its normalisation and the weights with it depend on the size of the image and a sigma
alone, and take longer to build than one of them takes to filter. They are kept in the order of
their last use, up to MOST_FILTERS and MOST_BYTES of all devices together.

Streams: what was built on one stream is used on another after an event, and its memory is recorded
as used there, so that a filter which is dropped stays until every kernel that reads it is done.
CUDA graphs: what is built within a capture has the graph's memory and is not kept; what was built
before, and is known to be done, is used by the graph and from then on never dropped, since nothing
says when the graph is. A capture on whose begin the build was not done builds its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch

from .._native import on_device_of
from ._lattice_cuda import FilterParts

MOST_FILTERS = 16
MOST_BYTES = 512 * 2**20  # a filter of 375 x 500 pixels has 33 MB

_kept: OrderedDict[Hashable, _Kept] = OrderedDict()  # the one used last is the last
_lock = threading.Lock()


def kept_parts(key: Hashable, like: torch.Tensor, build: Callable[[], FilterParts]) -> FilterParts:
    """`build()`, or what it gave when it was last called for this key on the device of `like`."""
    key, now = (like.device, key), _Streams(like)
    with _lock:
        found = _kept.get(key)
        if found is not None and now.use(found):
            _kept.move_to_end(key)
            return found.parts
    parts = build()
    if found is None and not now.captures:
        _keep(key, _Kept(parts, now))
    return parts


def drop_kept_filters() -> None:
    """All of them, those of captured graphs too: only where no graph is replayed any more."""
    with _lock:
        _kept.clear()


def _keep(key: Hashable, new: _Kept) -> None:
    if new.bytes > MOST_BYTES:
        return
    with _lock:
        if key in _kept:  # by another thread, meanwhile
            return
        _kept[key] = new
        # the graphs' own stay, and where they leave no room the new one goes
        droppable = [k for k, kept in _kept.items() if not kept.in_graph]
        for k in droppable:
            if len(_kept) <= MOST_FILTERS and sum(x.bytes for x in _kept.values()) <= MOST_BYTES:
                break
            del _kept[k]


class _Kept:
    """Parts that were put to work on one stream just now."""

    def __init__(self, parts: FilterParts, now: _Streams) -> None:
        self.parts, self.bytes = parts, sum(t.nbytes for t in parts.tensors())
        self.in_graph = False
        self.streams = {now.number}  # where its memory is known to be used
        self._done, self.event = now.mark()

    def is_done(self) -> bool:
        """Whether the device has built it.

        Looks at the memory of the host: the driver must not be asked while a graph is captured.
        """
        if self._done is None:
            return True
        if not self._done[0]:
            return False
        self._done = None
        return True


class _Streams:
    """The stream that is current on a tensor's device; emulated, there is none and no waiting."""

    def __init__(self, like: torch.Tensor) -> None:
        self._like, self._emulated = like, like.device.type == "cpu"
        self._stream = None if self._emulated else torch.cuda.current_stream(like.device)
        self.number = 0 if self._stream is None else self._stream.cuda_stream
        with on_device_of(like):
            self.captures = not self._emulated and torch.cuda.is_current_stream_capturing()

    def mark(self) -> tuple[torch.Tensor | None, torch.cuda.Event | None]:
        """A number in the host's memory that is 1 when the work so far is done, and its event."""
        if self._stream is None:
            return None, None
        done = torch.zeros(1, dtype=torch.uint8, pin_memory=True)
        done.copy_(torch.ones(1, dtype=torch.uint8, device=self._like.device), non_blocking=True)
        event = torch.cuda.Event()
        event.record(self._stream)
        return done, event

    def use(self, kept: _Kept) -> bool:
        """Whether work on this stream may use it, after what this has the stream wait for."""
        if self.captures:
            kept.in_graph = kept.in_graph or kept.is_done()
            return kept.in_graph
        if self._stream is not None and self.number not in kept.streams:
            if not kept.is_done():
                assert kept.event is not None
                self._stream.wait_event(kept.event)
            for tensor in kept.parts.tensors():
                tensor.record_stream(self._stream)
            kept.streams.add(self.number)
        return True
