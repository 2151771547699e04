"""Has every Python that finds this folder on PYTHONPATH load the instrumented `deeplab_native._C`.

All else is the installed package, however it is installed: an editable installation finds `_C` by a
finder of its own, and this one comes before it. Every process that loads the module leaves a file.
"""

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


sys.meta_path.insert(0, Finder)
