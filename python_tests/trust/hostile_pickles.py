"""Pickles that make a folder when somebody runs them, in every file that could hold one."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch


class Marker:
    """`pickled()` makes the folder `path` where it is run."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)

    def pickled(self, protocol: int = 2) -> bytes:
        return pickle.dumps(self, protocol)

    def spellings(self) -> Iterator[tuple[str, bytes]]:
        """By a name of each: files that hold it, whatever they are then called."""
        for protocol in range(6):
            yield f"pickle {protocol}", self.pickled(protocol)
        for name, protocol in (("dict", 2), ("dict 4", 4)):
            yield name, pickle.dumps({"state_dict": {"a": self}, "b": self}, protocol)
        yield "torch", self._torch(_use_new_zipfile_serialization=True)
        yield "torch before 1.6", self._torch(_use_new_zipfile_serialization=False)
        yield "torch, packed", self._repacked(zipfile.ZIP_DEFLATED)
        yield "torch's tar", self._tar()
        yield "npy", self._numpy(np.save)
        yield "npz", self._numpy(np.savez)
        yield "npz of a pickle", self._zip({"scores.npy": self.pickled()})
        yield "npz of a tensor file", self._zip({"scores.npy": self._torch()})
        head = struct.pack("<Q", len(self.pickled()))
        yield "safetensors", head + self.pickled()
        call = f'!!python/object/apply:os.mkdir ["{self.path}"]\n'
        yield "yaml", call.encode()
        yield "yaml in a mapping", f"model:\n  name: {call}".encode()
        yield "yaml's own pickle", f"a: !!python/object/new:os.mkdir ['{self.path}']\n".encode()
        yield "json", b'{"0": "a", "py/reduce": [{"py/function": "os.mkdir"}, ["x"]]}'
        yield "source", f"__import__('os').mkdir({self.path!r})".encode()

    def _torch(self, **how: bool) -> bytes:
        file = io.BytesIO()
        torch.save({"state_dict": {"a.weight": torch.ones(3), "b": self}}, file, **how)
        return file.getvalue()

    def _numpy(self, save: object) -> bytes:
        file = io.BytesIO()
        save(file, np.array([self], object))
        return file.getvalue()

    def _repacked(self, how: int) -> bytes:
        with zipfile.ZipFile(io.BytesIO(self._torch())) as archive:
            return self._zip({name: archive.read(name) for name in archive.namelist()}, how)

    def _zip(self, members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", how) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return file.getvalue()

    def _tar(self) -> bytes:
        """As the first versions of PyTorch wrote it."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                info = tarfile.TarInfo(name)
                info.size = len(self.pickled())
                tar.addfile(info, io.BytesIO(self.pickled()))
        return file.getvalue()
