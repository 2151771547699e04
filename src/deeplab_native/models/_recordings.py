"""Recorded calls of one net, kept by what they depend on."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch

from ._cuda_graphs import NotRecordableError, Recorder, Recording, Tensors, Work

_SEEN = 256  # keys of which something is remembered


class Recordings:
    """At most `keep` recordings of one net, the latest used; any thread may use them.

    Args:
        keep: at least 1.
        after: how often a key must have come, this time included, before it is recorded: recording
            takes as long as some ten calls.
    """

    def __init__(self, keep: int, after: int) -> None:
        self._keep, self._after = keep, after
        self._state: Any = None
        self._kept: OrderedDict[Hashable, Recording] = OrderedDict()
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._impossible: OrderedDict[Hashable, bool] = OrderedDict()

    def recorded(self) -> list[Any]:
        """The keys of what is recorded, the latest used last."""
        return list(self._kept)

    def run(
        self, recorder: Recorder | None, key: Hashable, state: Any, work: Work, input: torch.Tensor
    ) -> Tensors:
        """work(input): replayed, or as it is where it is not recorded.

        Args:
            recorder: None for none; the same in every call.
            key: all that the work depends on but the values of the input and `state`.
            state: another object once all that is recorded has gone out of date; it is kept, with
                what it holds, as long as there are recordings.
            work: a function of the input.
        """
        try:
            if recorder is not None and recorder.can_record():
                with recorder.lock:
                    recording = self._recording(recorder, key, state, work, input)
                    if recording is not None:
                        return recording.replay(input)
            return work(input)
        except torch.OutOfMemoryError:
            if not self._kept:
                raise
        self.clear(recorder)  # what graphs hold, nothing else can use
        return work(input)

    def clear(self, recorder: Recorder | None) -> None:
        """Drops all, and forgets what could not be recorded."""
        if recorder is not None:
            with recorder.lock:
                self._begin(None)

    def _begin(self, state: Any) -> None:
        while self._kept:
            self._drop_oldest()
        self._impossible.clear()
        self._state = state

    def _recording(
        self, recorder: Recorder, key: Hashable, state: Any, work: Work, input: torch.Tensor
    ) -> Recording | None:
        if state is not self._state:
            self._begin(state)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key in self._impossible or not self._is_due(key):
            return None
        while len(self._kept) >= self._keep:
            self._drop_oldest()
        try:
            self._kept[key] = recorder.record(work, input, state)
        except NotRecordableError as error:
            _remember(self._impossible, key, True)
            warnings.warn(
                f"this net cannot be recorded as a CUDA graph and runs as it is: {error}",
                RuntimeWarning,
                stacklevel=4,
            )
            return None
        return self._kept[key]

    def _is_due(self, key: Hashable) -> bool:
        times = self._seen.get(key, 0) + 1
        _remember(self._seen, key, times)
        return times >= self._after

    def _drop_oldest(self) -> None:
        _, recording = self._kept.popitem(last=False)
        recording.drop()


def _remember(memory: OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _SEEN:
        memory.popitem(last=False)
