"""Work on a GPU recorded once as a CUDA graph, and replayed on other inputs of the same shape."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import torch

Tensors = tuple[torch.Tensor, ...]
Work = Callable[[torch.Tensor], Tensors]


class NotRecordableError(Exception):
    """The work waits for the device, or does something else that a graph cannot hold."""


class Recording(Protocol):
    """Recorded work."""

    def replay(self, input: torch.Tensor) -> Tensors:
        """The work on an input of the recorded shape, in new tensors."""

    def drop(self) -> None:
        """Waits until nothing of it runs any more: called before its memory goes to others."""


class Recorder(Protocol):
    """What records work on a device; `lock` is held around each of its calls, and a recording's."""

    lock: threading.RLock

    def can_record(self) -> bool:
        """Whether the current stream, as it is, allows it."""

    def record(self, work: Work, input: torch.Tensor, keep: object) -> Recording:
        """Runs the work on the input once and records it.

        Raises NotRecordableError, or what the work itself raises.

        keep: what holds the memory that the work reads beside its input.
        """


class CudaGraphs:
    """The graphs of one device; all share one pool of memory.

    What a graph leaves in the pool, the next replay of any of them may write over. So results are
    copied out at once, and a replay begins, on whatever stream, only when the one before has been
    copied out. What a graph reads, its input and the weights, is outside of the pool.

    Args:
        device: with its index.
        cuda: `torch.cuda`, or what behaves like it.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self.lock = threading.RLock()
        self.device, self.cuda = device, cuda
        with cuda.device(device):
            self._pool = cuda.graph_pool_handle()
            self._stream = cuda.Stream(device)
            self.copied_out = cuda.Event()

    def can_record(self) -> bool:
        """Not within a capture, which takes the work itself as a part of it."""
        with self.cuda.device(self.device):
            return not self.cuda.is_current_stream_capturing()

    def record(self, work: Work, input: torch.Tensor, keep: object) -> Recording:
        """Waits for the device."""
        cuda = self.cuda
        with cuda.device(self.device), torch.inference_mode():
            static = input.clone()
            self._stream.wait_stream(cuda.current_stream(self.device))
            with cuda.stream(self._stream):
                work(static)  # what is made once must not be made in a capture
            self._stream.synchronize()
            graph = cuda.CUDAGraph()
            try:
                # thread_local: what other threads do on the device meanwhile does not end it
                with cuda.graph(
                    graph,
                    pool=self._pool,
                    stream=self._stream,
                    capture_error_mode="thread_local",
                ):
                    results = work(static)
            except Exception as error:
                raise NotRecordableError(
                    f"{type(error).__name__}: {error}".splitlines()[0]
                ) from error
        return _CudaRecording(self, graph, static, results, keep)


class _CudaRecording:
    def __init__(
        self,
        owner: CudaGraphs,
        graph: Any,
        static: torch.Tensor,
        results: Tensors,
        keep: object,
    ) -> None:
        self._owner, self._graph, self._keep = owner, graph, keep
        self._static, self._results = static, results

    def replay(self, input: torch.Tensor) -> Tensors:
        owner = self._owner
        with owner.cuda.device(owner.device), torch.inference_mode():
            stream = owner.cuda.current_stream(owner.device)
            stream.wait_event(owner.copied_out)
            self._static.copy_(input, non_blocking=True)
            self._graph.replay()
            results = tuple(result.clone() for result in self._results)
            owner.copied_out.record(stream)
        return results

    def drop(self) -> None:
        self._owner.copied_out.synchronize()

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the process there may be no device any more
            self.drop()


_recorders: dict[torch.device, CudaGraphs] = {}
_lock = threading.Lock()


def recorder_of(device: torch.device) -> Recorder | None:
    """The one of the device; None where there are no graphs, as on the CPU."""
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    device = torch.device("cuda", index)
    with _lock:
        if device not in _recorders:
            _recorders[device] = CudaGraphs(device)
        return _recorders[device]
