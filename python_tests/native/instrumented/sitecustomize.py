"""Has every Python that finds this folder on PYTHONPATH load the instrumented `deeplab_native._C`.

All else is the installed package, however it is installed: an editable installation finds `_C` by a
finder of its own, and this one comes before it. Every process that loads the module leaves a file.
"""

import ctypes
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path


class Finder:
    """Finds `_C` alone, in the file that the environment names."""

    @staticmethod
    def find_spec(
        name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The instrumented module's; None for any other name."""
        if name != "deeplab_native._C":
            return None
        (Path(os.environ["DEEPLAB_NATIVE_LOADED"]) / str(os.getpid())).touch()
        return importlib.util.spec_from_file_location(name, os.environ["DEEPLAB_NATIVE_C"])


def _larger_stacks() -> None:
    """New threads of a forked child get larger stacks than those of its parent had.

    TSan of gcc ends a child in which a thread's stack lies where one of a thread of the parent was,
    and the C library uses the stacks of threads that the child does not have again, where they are
    large enough.
    """
    libc, attributes, size = ctypes.CDLL(None), ctypes.create_string_buffer(64), ctypes.c_size_t()
    libc.pthread_getattr_default_np(attributes)
    libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(size.value + (1 << 20)))
    libc.pthread_setattr_default_np(attributes)


if "TSAN_OPTIONS" in os.environ:
    os.register_at_fork(after_in_child=_larger_stacks)
sys.meta_path.insert(0, Finder)
