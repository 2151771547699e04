"""What the library says about weights files, in options instead of Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

# Of `weights` and `create_model`, in the words of convert-weights, which has an option for each
_WORDS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^preprocessing: (.*) does not say.*", r"\1 does not say its input format; expected "
         "--input-format caffe (Caffe's weights and their ports) or --input-format torchvision"),
        (r"^preprocessing: (.*), expected None", r"--input-format: \1 (leave the option out)"),
        (r"^stride_in_1x1: (.*) does not say it.*", r"\1 does not say where it strides; expected "
         "--stride-in-1x1 (Caffe's weights and their ports) or --stride-in-3x3 (torchvision's)"),
        (r"make it with create_model\(.*stride_in_1x1=True\)", "give --stride-in-1x1"),
        (r"make it with create_model\(.*stride_in_1x1=False\)", "give --stride-in-3x3"),
        (r'\b(source|new_layers)="([\w-]+)"', r"--\1 \2"),
        (r"^(source|new_layers|num_classes|class_names|palette): expected", r"--\1: expected"),
        (r"^name: ", "--model: "),
        (r"\bexpected the name of one, ", "expected --model, "),
        (r"--new_layers", "--new-layers"),
        (r"--num_classes", "--num-classes"),
        (r"--class_names", "--class-names"),
    )
)  # fmt: skip
_ONLY_THERE = ("--input-format", "--stride-in", "--source", "--new-layers")


@contextmanager
def in_options(*, converting: bool = False) -> Iterator[None]:
    """Within, errors about a weights file name options.

    converting: those of convert-weights; other commands, which lack them, point to it.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        text = of_text(str(error), converting=converting)
        if text == str(error) or type(error) not in (ValueError, TypeError):
            raise
        raise type(error)(text) from error


def of_text(text: str, *, converting: bool) -> str:
    """A message with the options for the library's arguments."""
    said = text
    for pattern, words in _WORDS:
        said = pattern.sub(words, said)
    if not converting and said != text and any(option in said for option in _ONLY_THERE):
        said += " (options of: deeplab-native convert-weights IN -o NET.safetensors)"
    return said
