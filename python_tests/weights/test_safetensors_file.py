"""Our writer of safetensors: their bytes, without their temporary file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from deeplab_native.weights import safetensors_file


def test_the_file_is_as_safetensors_writes_it_and_no_other_is_made(tmp_path):
    """A process that is killed meanwhile leaves none of whose name nobody knows."""
    dtypes = list(safetensors_file._DTYPES)
    tensors = {f"{i % 7}é{i}": torch.arange(5 + i).to(d) for i, d in enumerate(dtypes)}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "map": torch.ones(2, 3, 1)}
    header = {"b": 'quoted "ö"', "a": "1"}
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    save_file(tensors, theirs, header)
    ours.touch()
    number = ours.stat().st_ino
    safetensors_file.write_safetensors(tensors, ours, header)
    assert ours.stat().st_ino == number
    parts = []
    for path in (theirs, ours):
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        about = json.loads(content[8:end])
        parts.append((about, [*about][1:], content[end:]))
    assert parts[0] == parts[1]
    with pytest.raises(TypeError, match=r"a: expected one of .*, got torch.complex64"):
        safetensors_file.write_safetensors({"a": torch.zeros(1, dtype=torch.cfloat)}, ours, {})
