"""CUDA graphs acted on the CPU: what is recorded runs again, into the same memory."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import torch

from deeplab_native.models._cuda_graphs import NotRecordableError


class FakeRecorder:
    """Keeps what a graph keeps: the function, and where its input and its results lie."""

    def __init__(self):
        self.lock = threading.RLock()
        self.recorded = self.replayed = self.dropped = 0
        self.capturing = False
        self.impossible = False
        self.out_of_memory = 0  # times that it will be

    def can_record(self):
        return not self.capturing

    def record(self, work, input, keep):
        if self.out_of_memory:
            self.out_of_memory -= 1
            raise torch.OutOfMemoryError("none is left")
        work(input)
        if self.impossible:
            raise NotRecordableError("it waits")
        self.recorded += 1
        return FakeRecording(self, work, input.clone())


class FakeRecording:
    def __init__(self, owner, work, static):
        self.owner, self.work, self.static = owner, work, static

    def replay(self, input):
        self.owner.replayed += 1
        assert self.static.shape == input.shape
        self.static.copy_(input)
        return self.work(self.static)

    def drop(self):
        self.owner.dropped += 1


class FakeCuda:
    """`torch.cuda` as `CudaGraphs` uses it; `log` has what was done, in order."""

    def __init__(self):
        self.log = []
        self.stream_now = self.Stream("first")
        self.capturing = False
        self.fails = False

    def Stream(self, name):  # noqa: N802
        return SimpleNamespace(
            name=str(name),
            wait_stream=lambda other: self.log.append(f"{name} waits for stream {other.name}"),
            wait_event=lambda event: self.log.append(f"{name} waits for event"),
            synchronize=lambda: self.log.append(f"host waits for {name}"),
        )

    def Event(self):  # noqa: N802
        return SimpleNamespace(
            record=lambda stream: self.log.append(f"event on {stream.name}"),
            synchronize=lambda: self.log.append("host waits for event"),
        )

    def CUDAGraph(self):  # noqa: N802
        return SimpleNamespace(replay=lambda: self.log.append("replay"))

    def graph_pool_handle(self):
        return (0, len(self.log))

    def is_current_stream_capturing(self):
        return self.capturing

    def current_stream(self, device):
        return self.stream_now

    @contextmanager
    def device(self, device):
        yield

    @contextmanager
    def stream(self, stream):
        before, self.stream_now = self.stream_now, stream
        yield
        self.stream_now = before

    @contextmanager
    def graph(self, graph, pool, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        self.log.append(f"capture in pool {pool}")
        yield
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
