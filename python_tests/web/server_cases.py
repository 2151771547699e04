"""The real server in a process of its own, and visitors that speak its protocol."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote

import httpx

_CODE = "from deeplab_native.cli.main import main; main()"


class Server(NamedTuple):
    process: subprocess.Popen
    address: str

    def stop(self) -> tuple[int, str, str]:
        """As Ctrl-C does: exit code, stdout, stderr."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(600), *self.process.communicate()


@contextmanager
def serving(folder, *options: str) -> Iterator[Server]:
    """`deeplab-native serve` on a free port, in a folder."""
    words = [sys.executable, "-c", _CODE, "serve", "--port", "0", *options]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    line = process.stdout.readline()
    found = re.match(r"(http://127\.0\.0\.1:\d+)  \(Ctrl-C ends it\)", line)
    assert found, line + process.stderr.read()
    try:
        yield Server(process, found[1])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Visitor:
    """An open page, without a browser: what it sends and what it gets."""

    def __init__(self, address: str, page: str) -> None:
        self.http = httpx.Client(base_url=address, timeout=120)
        self.page = page
        config = self.http.get("/config").json()
        self.parts = {c["id"]: c for c in config["components"]}
        self.events = config["dependencies"]
        opened = next(e for e in self.events if any(t[1] == "load" for t in e["targets"]))
        self.secret = self.ask(opened, [])[-1]["secret"]

    def event(self, element: str, name: str) -> dict:
        """That of an element of the page."""
        return next(
            event
            for event in self.events
            for target, trigger in event["targets"]
            if trigger == name and self.parts[target]["props"].get("elem_id") == element
        )

    def ask(self, event: dict, data: list) -> list:
        """What the function of an event gives."""
        body = {"data": data, "fn_index": event["id"], "session_hash": self.page}
        self.http.post("/gradio_api/queue/join", json=body).raise_for_status()
        address = f"/gradio_api/queue/data?session_hash={self.page}"
        with self.http.stream("GET", address) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    if message["msg"] == "process_completed":
                        output = message["output"]
                        return output.get("data") or [{"refused": output["error"]}]
        raise AssertionError("no answer")

    def refine(self, **changes) -> dict:
        """The answer to a slider that moves; the controls are as they are at first."""
        event = self.event("dn-w1", "change")
        return self.ask(event, self.controls(event, **changes))[0]

    def controls(self, event: dict, **changes) -> list:
        """What an event sends: the values of the controls, but for these."""
        data = [self.parts[i]["props"].get("value") for i in event["inputs"]]
        names = [self.parts[i]["props"].get("elem_id", "state") for i in event["inputs"]]
        return [changes.get(n.removeprefix("dn-"), v) for n, v in zip(names, data, strict=True)]

    def upload(self, name: str, content: bytes, what: str = "photo") -> httpx.Response:
        path = f"/upload/{what}/{self.secret}"
        return self.http.post(path, content=content, headers={"x-name": quote(name)})

    def get(self, path: str) -> httpx.Response:
        what, _, name = path.partition("/")
        return self.http.get(f"/{what}/{self.secret}/{name}")
