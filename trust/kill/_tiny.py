"""Commands in a process of their own that know the tests' tiny net.

`python -m trust.kill._tiny` runs the commands that the environment names, as a shell would.
"""

from __future__ import annotations

import os
import sys

from deeplab_native.models import registry
from python_tests.training.training_cases import TinyNet

from . import _events

COMMANDS = "DEEPLAB_KILL_COMMANDS"
NAME = "tiny"


def register() -> None:
    """From now on `create_model("tiny")` makes one."""
    registry._MODELS[NAME] = registry.ModelInfo(NAME, 0, 4, "not in the paper", TinyNet)


if __name__ == "__main__":
    from deeplab_native.cli.main import main

    register()
    _events.control().is_me()
    for line in os.environ.pop(COMMANDS).split("\n"):
        sys.argv = ["deeplab-native", *line.split("\t")]
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
