"""Of bindings_gauss.cpp."""
# ruff: noqa: N999

def gauss_transform_cpu_float(
    features: int,
    values: int,
    out: int,
    images: int,
    num_points: int,
    d: int,
    num_channels: int,
    far: float,
    num_threads: int,
    /,
) -> None: ...
def gauss_transform_features_cpu_float(
    features: int,
    values: int,
    grad: int,
    grad_features: int,
    images: int,
    num_points: int,
    d: int,
    num_channels: int,
    far: float,
    num_threads: int,
    /,
) -> None: ...
def gauss_transform_cpu_double(
    features: int,
    values: int,
    out: int,
    images: int,
    num_points: int,
    d: int,
    num_channels: int,
    far: float,
    num_threads: int,
    /,
) -> None: ...
def gauss_transform_features_cpu_double(
    features: int,
    values: int,
    grad: int,
    grad_features: int,
    images: int,
    num_points: int,
    d: int,
    num_channels: int,
    far: float,
    num_threads: int,
    /,
) -> None: ...
