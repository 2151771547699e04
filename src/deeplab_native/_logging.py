"""The package's loggers: silent until a program asks for them, as the standard library advises.

`logging.getLogger("deeplab_native").setLevel("INFO")` and a handler show what the package decides
and where it is; on the command line `-v` does. Nothing else in the package makes a logger.
"""

from __future__ import annotations

import logging

ROOT = "deeplab_native"

logging.getLogger(ROOT).addHandler(logging.NullHandler())


def logger(name: str) -> logging.Logger:
    """The logger of a module, `logger(__name__)`."""
    return logging.getLogger(name)
