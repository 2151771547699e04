"""What comes from a hub is what the hub says it is, and what was asked for; the hub is our own."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec

import pytest
import torch

from deeplab_native import weights
from deeplab_native.models import DeepLab, create_model
from python_tests.trust.hostile_pickles import Marker

if find_spec("huggingface_hub") is None:
    pytest.skip("huggingface_hub is not installed", allow_module_level=True)

NET = "deeplab_mobilenetv2_aspp"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "net"
    create_model(NET, 3, seed=0).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def changed(folder):
    """Of the same length, changed on its way or in the cache."""
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    return bytes(content)


@pytest.fixture
def hub(folder, digest, changed):
    """The address of a hub on this machine, which of me/changed does not send what it says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.wfile.write(self.answer())

        def answer(self):
            name = self.path.split("?")[0].rpartition("/")[2]
            content = (folder / name).read_bytes() if (folder / name).is_file() else b""
            self.send_response(200 if content else 404)
            tag = digest if name == "model.safetensors" else COMMIT
            if name == "model.safetensors":
                content = changed if "me/changed" in self.path else content
                self.send_header("X-Linked-Etag", f'"{tag}"')
                self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("ETag", f'"{tag}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_downloaded_is_compared(hub, digest, changed, tmp_path):
    """In a process of its own, which reads the hub's address when it begins."""
    found = hashlib.sha256(changed).hexdigest()
    of_hub = f"its SHA-256 is {found}, but the hub says {digest}"
    cases = [
        ("me/net", {"revision": COMMIT}, "ok"),
        ("me/net", {"sha256": digest}, "ok"),
        ("me/net", {"sha256": "0" * 64}, f"its SHA-256 is {digest}, expected {'0' * 64}"),
        ("me/changed", {}, of_hub),
        ("me/changed", {"local_files_only": True}, of_hub),
        ("me/changed", {"sha256": found}, "ok"),  # whoever says so knows it
    ]
    code = """
import json, sys
from deeplab_native.models import DeepLab
for name, arguments, _ in json.loads(sys.argv[1]):
    try:
        DeepLab.from_pretrained(name, **arguments)
        print("ok")
    except ValueError as error:
        print(error)
"""
    own = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(cases)],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "0", **own},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for (_, _, expected), said in zip(cases, run.stdout.splitlines(), strict=True):
        assert expected in said


def test_a_folder(folder, digest):
    assert DeepLab.from_pretrained(folder, sha256=digest.upper()).num_classes == 3
    with pytest.raises(ValueError, match=f"its SHA-256 is {digest}, expected {'0' * 64}"):
        DeepLab.from_pretrained(folder, sha256="0" * 64)


def test_weights_files(folder, digest):
    path = folder / "model.safetensors"
    net = weights.load_model(path, sha256=digest)
    weights.load(net, path, sha256=digest)
    assert weights.recognise(path, sha256=digest).source.name == "deeplab_native"
    for call in (
        lambda: weights.load(net, path, sha256="f" * 64),
        lambda: weights.load_model(path, sha256="f" * 64),
        lambda: weights.recognise(path, sha256="f" * 64),
    ):
        with pytest.raises(ValueError, match=f"is {digest}, expected {'f' * 64} .get the file"):
            call()
    with pytest.raises(ValueError, match="sha256: expected 64 hexadecimal digits, got 'abc'"):
        weights.load_model(path, sha256="abc")
    with pytest.raises(ValueError, match="read already"):
        weights.load_model(weights.recognise(path), sha256=digest)


def test_nothing_of_another_file_is_parsed(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    path.write_bytes(Marker(tmp_path / "marker").pickled())
    for read in ("torch.load", "safetensors.safe_open", "zipfile.ZipFile"):
        monkeypatch.setattr(read, lambda *_, **__: pytest.fail("parsed"))
    with pytest.raises(ValueError, match="its SHA-256 is"):
        weights.load_model(path, sha256="0" * 64)
    assert torch.load is not None and not (tmp_path / "marker").exists()
