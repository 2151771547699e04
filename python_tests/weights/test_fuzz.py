"""Damaged and hostile files give a ValueError that names the file, whatever they hold."""

import io
import tracemalloc
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deeplab_native import weights
from python_tests.weights.checkpoint_cases import layer, message, v1_layer, varint

SETTINGS = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,  # the same files in every run
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def caffemodel():
    values = np.arange(40, dtype=np.float32)
    vector = values[:4]
    return b"".join(
        [
            message(1, "net"),
            layer("conv1_1", "Convolution", [values.reshape(2, 5, 2, 2), vector]),
            layer("bn_conv1", "BatchNorm", [vector, vector, np.float32([1])]),
            layer("fc6", "InnerProduct", [values.reshape(10, 4)], packed=False),
            v1_layer("fc7", 14, [values.reshape(10, 4), values[:10]]),
            v1_layer("conv1_2", 4, [values.reshape(2, 5, 2, 2)], double=True),
        ]
    )


def pickled(*, zipped=True, **beside):
    file = io.BytesIO()
    state = {f"features.{i}.weight": torch.ones(3, 2) for i in (0, 2, 5)}
    state["classifier.0.weight"] = torch.ones(2, 2)
    torch.save({"state_dict": state} | beside, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


# what torch's restricted unpickler refuses, so that ours reads the file
BESIDE = {"args": Namespace(lr=0.1, folder=Path("runs")), "best": np.float64(0.5)}


FILES = {
    "caffemodel": caffemodel(),
    "zip": pickled(),
    "legacy": pickled(zipped=False),
    "zip beside others": pickled(**BESIDE),
    "legacy beside others": pickled(zipped=False, **BESIDE),
    "safetensors": save_safetensors({"conv1_1.weight": torch.ones(64, 3, 3, 3)}, {"a": "b"}),
}


def survives(tmp_path, content):
    """Whether the content is read; a ValueError that names the file is fine, anything else not."""
    path = tmp_path / "fuzzed"
    path.write_bytes(content)
    try:
        weights.recognise(path)
    except ValueError as error:
        assert str(path) in str(error)
        return False
    return True


@pytest.mark.parametrize("kind", FILES)
def test_whole_files_are_read_or_known(tmp_path, kind):
    """The files that the other tests damage are good ones."""
    if kind == "safetensors":
        path = tmp_path / "file"
        path.write_bytes(FILES[kind])
        with pytest.raises(ValueError, match="does not say its input format"):
            weights.recognise(path)
    else:
        assert survives(tmp_path, FILES[kind])


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation(tmp_path, kind):
    """A caffemodel cut between two layers is a caffemodel, of a net that lacks some."""
    whole = FILES[kind]
    for size in range(0, len(whole), 1 if len(whole) < 1500 else 37):
        if survives(tmp_path, whole[:size]):
            assert kind == "caffemodel"


@SETTINGS
@given(content=st.binary(max_size=400), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02"]))
def test_random_bytes(tmp_path, content, start):
    survives(tmp_path, start + content)


@pytest.mark.parametrize("kind", FILES)
@SETTINGS
@given(data=st.data())
def test_changed_bytes(tmp_path, kind, data):
    content = bytearray(FILES[kind])
    # mostly in the first part, where the structure is
    places = st.integers(0, min(len(content), 600) - 1) | st.integers(0, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    survives(tmp_path, bytes(content))


FIELDS = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.lists(
        st.builds(
            lambda number, kind, length, content: (
                varint(number << 3 | kind)
                + (varint(length if length is not None else len(content)) if kind == 2 else b"")
                + content
            ),
            st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 100]),
            st.integers(0, 7),
            st.none() | st.none() | st.integers(0, 2**64 - 1),
            inner,
        ),
        max_size=4,
    ).map(b"".join),
    max_leaves=12,
)


@SETTINGS
@given(content=FIELDS)
@example(message(100, message(7, message(7, message(1, varint(2**31 - 1) * 8)))))
def test_messages_that_are_nearly_right(tmp_path, content):
    survives(tmp_path, message(100, message(1, "fc6") + content) + content)


def test_deep_nesting(tmp_path):
    content = b""
    for _ in range(3000):
        content = message(7, content)
    for front in (b"", message(1, "fc6")):
        assert not survives(tmp_path, message(100, front + content))
    nested = b'{"__metadata__":{"format":"deeplab_native/1","model":"m","num_classes":"3",'
    nested += b'"options":"' + b"[" * 100_000 + b'","preprocessing":"{}"}}'
    assert not survives(tmp_path, len(nested).to_bytes(8, "little") + nested)


def test_lengths_do_not_take_memory(tmp_path):
    """Lengths of an exabyte, a shape of 2^248 numbers, and short runs of numbers one by one."""
    runs = (b"\x2d1234" * 3 + b"\x60\x01") * 20_000
    files = [
        message(1, "net") + varint(100 << 3 | 2) + varint(1 << 60) + bytes(1000),
        message(100, message(7, message(7, message(1, varint(2**31 - 1) * 8)))),
        message(100, message(7, runs)),
        (1 << 39).to_bytes(8, "little") + b"{" + bytes(1000),
    ]
    for content in files:
        tracemalloc.start()
        assert not survives(tmp_path, content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6 + 10 * len(content)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty, or truncated"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
        (bytes(range(9, 99)), "is neither safetensors nor a PyTorch file, and no caffemodel"),
    ],
)
def test_other_files(tmp_path, content, problem):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        weights.recognise(path)
