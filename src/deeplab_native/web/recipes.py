"""The parameters of a result as Python code and as a command, to be pasted."""

from __future__ import annotations

import shlex

from .._images import TURNED
from ..jobs._label_map import LabelMap
from .given import Labelling, Photo
from .workspace import Workspace

_NAMES = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma")


def python_code(workspace: Workspace) -> str:
    """Makes the labels of the same files; ValueError where there is no result."""
    labelling, photo = _there(workspace)
    settings = workspace.settings
    params = ", ".join(f"{name}={getattr(settings.params, name):g}" for name in _NAMES)
    turned = any(TURNED in note for note in photo.notes)
    opened = f"Image.open({photo.name!r})"
    opened = f"ImageOps.exif_transpose({opened})" if turned else opened
    pillow = f"from PIL import Image{', ImageOps' if turned else ''}\n\n"
    rest = f"photo = {opened}.convert('RGB')\nparams = CRFParams({params})\n"
    if labelling.mode == "network":
        names = "load_model" if labelling.file else "EMBEDDED, EMBEDDED_SIDE, load_model"
        weights = repr(labelling.file) if labelling.file else "EMBEDDED"
        side = "" if labelling.file else ", longest_side=EMBEDDED_SIDE"
        return (
            "from deeplab_native import CRFParams\n"
            "from deeplab_native.models import predict\n"
            f"from deeplab_native.weights import {names}\n"
            f"{pillow}{rest}net = load_model({weights})\n"
            f"found = predict(net, photo, crf=params, iterations={settings.iterations}{side})\n"
            "labels = found.labels\n"
        )
    file, confidence = _labels_file(labelling), _confidence(labelling)
    numpy, read = "", f"Image.open({file!r})"
    if not file.lower().endswith(".png"):
        numpy, read = "import numpy as np\n", f"np.load({file!r})"
    if file.lower().endswith(".npz"):
        read = f"next(iter(np.load({file!r}).values()))"
    kind = ', kind="labels"' if labelling.mode == "scribbles" else ""
    how = "" if confidence is None else f", confidence={confidence:g}"
    return (
        f"{numpy}from deeplab_native import CRFParams, refine\n{pillow}{rest}"
        f"given = {read}\n"
        f"labels = refine(\n    photo, given{kind}{how}, params=params, "
        f"iterations={settings.iterations}\n)\n"
    )


def command(workspace: Workspace) -> str:
    """For a terminal, in the folder of the files; ValueError where there is no result."""
    labelling, photo = _there(workspace)
    settings = workspace.settings
    if labelling.mode == "network":
        words = ["segment", _path(photo.name)]
        words += ["--weights", _path(labelling.file)] if labelling.file else []
    else:
        words = ["crf", _path(photo.name), _path(_labels_file(labelling))]
        words += ["--kind", "labels"] if labelling.mode == "scribbles" else []
        confidence = _confidence(labelling)
        words += [] if confidence is None else ["--confidence", f"{confidence:g}"]
    for name in _NAMES:
        words += [f"--{name.replace('_', '-')}", f"{getattr(settings.params, name):g}"]
    words += ["--iterations", str(settings.iterations)]
    words += ["-o", "segmented" if labelling.mode == "network" else "mask.png"]
    return shlex.join(["deeplab-native", *words])


def _there(workspace: Workspace) -> tuple[Labelling, Photo]:
    if workspace.photo is None or workspace.labelling is None or workspace.refined is None:
        raise ValueError("result: none yet")
    return workspace.labelling, workspace.photo


def _labels_file(labelling: Labelling) -> str:
    return labelling.file or "labelling.png"


def _confidence(labelling: Labelling) -> float | None:
    given = labelling.given
    return given.confidence if isinstance(given, LabelMap) else None


def _path(name: str) -> str:
    """A name that is no option."""
    return f"./{name}" if name.startswith("-") else name
