"""The part of _C in csrc/bindings_gauss_cuda.cpp, only where has_cuda: the exact Gaussian sum."""
# ruff: noqa: N999

def gauss_transform_scratch_bytes_cuda(
    images: int, num_points: int, d: int, channels: int, dtype: str, /
) -> int: ...
def gauss_transform_cuda(
    features: int,
    values: int,
    out: int,
    images: int,
    num_points: int,
    d: int,
    channels: int,
    far: float,
    dtype: str,
    half: bool,
    scratch: int,
    stream: int,
    /,
) -> None: ...
def gauss_transform_features_cuda(
    features: int,
    values: int,
    grad: int,
    grad_features: int,
    images: int,
    num_points: int,
    d: int,
    channels: int,
    far: float,
    dtype: str,
    half: bool,
    scratch: int,
    stream: int,
    /,
) -> None: ...
