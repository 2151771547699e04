"""Shapes as the functions of _C take them, any sequence of that length; see csrc/bindings.h."""
# ruff: noqa: N999

from collections.abc import Sequence
from typing import Annotated

Pair = Annotated[Sequence[int], "FixedSize(2)"]  # vertical, horizontal
Triple = Annotated[Sequence[int], "FixedSize(3)"]
Quad = Annotated[Sequence[int], "FixedSize(4)"]
