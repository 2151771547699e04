"""What a user reads when a CUDA tensor meets a build, a device or an error that does not fit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from deeplab_native import _C, CRFParams, _native, dense_crf, space_to_batch
from deeplab_native.cli import info

MAP = torch.zeros(1, 2, 6, 6)


# ---- without a GPU ----
def in_a_build_without_cuda(code: str) -> None:
    prelude = "from deeplab_native import _C; _C.has_cuda = False; import torch\n"
    subprocess.run([sys.executable, "-c", prelude + code], check=True, timeout=300)


# In place of torch's registration: CUDA implementations are kept, and called without a dispatch.
# (Sent to the CUDA key, a CPU tensor ends the process on a machine with a GPU.)
RECORD = """
registered = {}
register = torch.library.Library.impl
def impl(self, name, function, key="", **options):
    if (self.ns, key) == ("deeplab_native", "CUDA"):
        registered[name] = function
    return register(self, name, function, key, **options)
torch.library.Library.impl = impl
import deeplab_native
from deeplab_native import _native
[getattr(deeplab_native, name) for name in deeplab_native.__all__]
"""


def test_a_build_without_cuda_names_itself():
    """Every op, by what is registered for its CUDA tensors."""
    in_a_build_without_cuda(
        RECORD
        + """
assert registered.keys() == _native.CUDA_IMPLEMENTATIONS.keys()
assert len(registered) > 10, len(registered)
for name, implementation in registered.items():
    try:
        implementation(torch.zeros(1, 2, 6, 6), [2, 2], [0, 0])
    except RuntimeError as error:
        words = f"{name}: got a CUDA tensor.*was built without CUDA.*.cpu()".split(".*")
        assert all(word in str(error) for word in words), error
    else:
        raise SystemExit(f"{name}: no error")
"""
    )


def test_a_build_without_cuda_and_a_tensor_on_cuda(cuda):
    in_a_build_without_cuda("""
from deeplab_native import space_to_batch
try:
    space_to_batch(torch.zeros(1, 2, 6, 6, device="cuda"), 2)
except RuntimeError as error:
    assert "space_to_batch: got a CUDA tensor" in str(error), error
else:
    raise SystemExit("no error")
""")


@pytest.fixture
def failing(emulated):
    """Sets the error that the next launch gets from the emulator."""
    yield emulated.set_last_error
    emulated.set_last_error(0)


def test_a_gpu_for_which_this_was_not_built(failing):
    failing(209)  # cudaErrorNoKernelImageForDevice
    with pytest.raises(RuntimeError) as caught:
        space_to_batch(MAP, 2)
    for words in (
        "space_to_batch: CUDA: no kernel image",
        "compute capability 0.0",  # the emulator's
        "not built (emulated)",  # its architectures
        "install it again with -Ccmake.define.CMAKE_CUDA_ARCHITECTURES=native",
    ):
        assert words in str(caught.value)
    space_to_batch(MAP, 2)  # not sticky


@pytest.mark.parametrize("error", [214, 700, 702, 710, 716, 719])
def test_an_earlier_kernel_failed(error, failing):
    words = "ran before this call.*start it again.*CUDA_LAUNCH_BLOCKING=1"
    failing(error)
    with pytest.raises(RuntimeError, match=words):
        space_to_batch(MAP, 2)


@pytest.mark.parametrize("error", [35, 222])
def test_a_driver_that_is_too_old(error, failing):
    failing(error)
    with pytest.raises(RuntimeError, match=r"driver is older.*update the driver"):
        space_to_batch(MAP, 2)


@pytest.mark.parametrize("error", [701, 900])
def test_errors_that_end_with_the_call(error, failing):
    """Too many resources, and an operation that a stream capture does not allow."""
    failing(error)
    with pytest.raises(RuntimeError) as caught:
        space_to_batch(MAP, 2)
    assert "start it again" not in str(caught.value)


def test_mixed_devices_are_named():
    with pytest.raises(ValueError, match="one device, got unary on cpu, image on meta"):
        _native.check_same_device(unary=MAP, image=MAP.to("meta"), weight=None)


def test_the_build_says_its_architectures():
    assert bool(_C.cuda_architectures) == _C.has_cuda
    assert "native" not in _C.cuda_architectures


# ---- on a GPU ----
def in_a_process(code: str) -> str:
    """stderr of a process whose GPU context an error may destroy."""
    prelude = "import torch\nfrom deeplab_native import space_to_batch\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    return done.stderr


def test_a_failed_kernel_of_another_library_on_cuda(cuda):
    report = in_a_process("""
map = torch.zeros(1, 2, 6, 6, device="cuda")
bad = torch.tensor([9], device="cuda")
map[0, 0, 0][bad]  # device-side assert
try:
    torch.cuda.synchronize()
except Exception:
    pass
space_to_batch(map, 2)
""")
    last = report.strip().splitlines()[-1]
    assert "assert" in last or "CUDA_LAUNCH_BLOCKING" in report


def test_out_of_memory_and_on_again(cuda):
    space_to_batch(MAP.to(cuda), 2)
    huge = torch.zeros(1, device=cuda).expand(1, 1 << 14, 1 << 14, 1 << 14)  # 16 TiB, one element
    with pytest.raises(torch.OutOfMemoryError):
        space_to_batch(huge, 2)
    map = torch.rand(1, 2, 6, 6, device=cuda)
    assert torch.equal(space_to_batch(map, 2).cpu(), space_to_batch(map.cpu(), 2))


def test_out_of_memory_in_the_middle(cuda):
    """Of a forward pass with several allocations, whichever of them fails."""
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    used = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (used + (64 << 20)) / total))
    try:
        map = torch.rand(4 << 20, device=cuda).view(1, 4, 1024, 1024).requires_grad_()  # 16 MiB
        with pytest.raises(torch.OutOfMemoryError):
            kept = [space_to_batch(map, 2) for _ in range(64)]
            del kept
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    out = space_to_batch(map, 2)
    out.sum().backward()
    assert torch.equal(map.grad, torch.ones_like(map))


def test_mixed_devices_on_cuda(cuda):
    from deeplab_native import CRFParams, dense_crf

    unary, image = torch.zeros(1, 2, 6, 6, device=cuda), torch.zeros(1, 3, 6, 6).to(torch.uint8)
    with pytest.raises(ValueError, match="one device, got unary on cuda:0, image on cpu"):
        dense_crf(unary, image, CRFParams(4, 67, 30, 3, 1))


def test_a_side_stream(cuda):
    """Work goes to the stream that is current: it waits there for what was queued before."""
    stream = torch.cuda.Stream()
    map = torch.zeros(8, 64, 128, 128, device=cuda)
    slow = torch.rand(4096, 4096, device=cuda)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(50):
            slow = slow @ slow
            slow /= slow.abs().max()
        map.fill_(3)
        blocks = space_to_batch(map, 4, 2)
    stream.synchronize()
    assert torch.equal(blocks.cpu(), space_to_batch(torch.full(map.shape, 3.0), 4, 2))


def test_another_device(cuda):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    map, unary = torch.rand(2, 3, 20, 20), torch.rand(1, 4, 9, 11)
    image = torch.randint(0, 255, (1, 3, 9, 11)).to(torch.uint8)
    with torch.cuda.device(0):
        blocks = space_to_batch(map.to("cuda:1"), 3, 1)
        q = dense_crf(-unary.to("cuda:1"), image.to("cuda:1"), CRFParams(4, 8, 30, 3, 2))
        assert torch.cuda.current_device() == 0
    expected = dense_crf(-unary, image, CRFParams(4, 8, 30, 3, 2))
    torch.testing.assert_close(q.cpu(), expected, rtol=0, atol=5e-5)
    assert blocks.device == torch.device("cuda:1")
    assert torch.equal(blocks.cpu(), space_to_batch(map, 3, 1))


# ---- `deeplab-native info` ----
@pytest.mark.parametrize(
    "capability, architectures, words",
    [
        ((9, 0), "75-real, 80-real, 90", "supported by this build"),
        ((8, 6), "75-real, 80-real, 90", "supported by this build"),
        ((12, 0), "75-real, 80-real, 90", "supported by this build (the driver compiles"),
        ((10, 0), "100-real, 120", "supported by this build"),
        ((7, 0), "75-real, 80-real, 90", "NOT supported by this build; install it again"),
        ((8, 6), "75-real, 89-real", "NOT supported"),
        ((12, 0), "90-real", "NOT supported"),
        ((9, 0), "90a", "supported by this build"),
        ((9, 0), "", "the native ops run on the CPU only"),
    ],
)
def test_info_says_whether_the_build_fits_the_gpu(capability, architectures, words):
    assert info._match(capability, architectures).startswith(words)


def test_info_lists_the_gpus(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: [(9, 0), (7, 0)][i])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"Name {i}")
    assert info._gpus("90") == [
        ("GPU 0", "Name 0, 9.0: supported by this build"),
        ("GPU 1", "Name 1, 7.0: " + info._match((7, 0), "90")),
    ]


def test_info_survives_a_broken_driver(monkeypatch, run):
    def broken():
        raise RuntimeError("CUDA driver error\nof two lines")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", broken)
    assert info._gpus("90") == [("GPU", "cannot be asked: CUDA driver error")]
    assert run("info").code == 0
