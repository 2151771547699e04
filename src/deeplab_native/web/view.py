"""What the page shows of a workspace, as JSON; errors in it have no path of this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from .. import viz
from .._errors import one_line
from .._masks import UNSURE
from ..crf import CRFParams
from .given import Photo
from .recipes import command, python_code
from .scribbles import Scribbles
from .sessions import BusyError, Session, Sessions, Upload
from .workspace import Workspace

GONE = "This page was idle for too long, or too many are open: load it again."
_EXPECTED = (ValueError, TypeError, OSError, MemoryError, RuntimeError)


class Asked(NamedTuple):
    """What the controls of the page say.

    Attributes:
        mode, net, drawn, confidence: arguments of `Workspace.label`; `drawn` is the page's JSON.
        values: w1, sigma_alpha, sigma_beta, w2, sigma_gamma.
        iterations: of mean field.
    """

    mode: str
    net: str
    drawn: Any
    confidence: float
    values: tuple[float, ...]
    iterations: float


def answer(sessions: Sessions, secret: str, asked: Asked) -> dict[str, Any]:
    """Reads what was uploaded, labels and refines, and says what there is to see.

    Never raises: what is wrong is in "error", and the last result stays.
    """
    try:
        return sessions.run(secret, lambda session: _answer(session, secret, asked))
    except KeyError:
        return {"secret": secret, "error": GONE, "gone": True}
    except TimeoutError as error:
        return {"secret": secret, "error": one_line(error)}
    except BusyError as error:
        return {"secret": secret, "error": str(error)}


def take_example(sessions: Sessions, secret: str, name: str, photo: np.ndarray) -> None:
    """A photograph that is there; nothing where the session is gone, which `answer` says."""
    try:
        sessions.run(secret, lambda session: session.workspace.set_photo(photo, name, example=True))
    except (KeyError, TimeoutError, BusyError):
        return


def _params(values: tuple[float, ...]) -> CRFParams:
    if len(values) != 5:
        raise ValueError(f"values: expected the five of the CRF, got {len(values)}")
    return CRFParams(*map(float, values))  # float says what it cannot take


def _answer(session: Session, secret: str, asked: Asked) -> dict[str, Any]:
    workspace = session.workspace
    shown: dict[str, Any] = {"secret": secret}
    try:
        _read_uploads(session, asked.confidence)
        drawn = Scribbles.read(asked.drawn) if asked.mode == "scribbles" else Scribbles()
        if drawn.photo not in (None, workspace.photos):  # on the last one
            drawn = replace(drawn, strokes=())
        if workspace.photo is not None and not _is_waited_for(workspace, asked, drawn):
            workspace.label(asked.mode, asked.net, drawn, asked.confidence)
            workspace.refine(_params(asked.values), int(asked.iterations))
            shown.update(_result(workspace))
    except _EXPECTED as error:
        shown["error"] = one_line(error)
    if workspace.photo is not None:
        height, width = workspace.photo.pixels.shape[:2]
        shown["photo"] = {
            "name": workspace.photo.name,
            "number": workspace.photos,
            "height": height,
            "width": width,
            "copy": _copy_name(workspace.photo),
        }
        shown["notes"] = _notes(workspace)
    return shown


def _is_waited_for(workspace: Workspace, asked: Asked, drawn: Scribbles) -> bool:
    """Whether nothing is drawn or given yet, which is no error."""
    if asked.mode == "scribbles":
        return not drawn.strokes
    return asked.mode == "file" and not workspace.has_file


def _read_uploads(session: Session, confidence: float) -> None:
    """Each once, whether it can be used or not."""
    pending, session.pending = session.pending, {}
    for what in ("photo", "labels"):
        if what in pending:
            _read_upload(session.workspace, what, pending[what], confidence)


def _read_upload(workspace: Workspace, what: str, upload: Upload, confidence: float) -> None:
    try:
        with TemporaryDirectory(prefix="deeplab-native-") as folder:
            path = Path(folder, "file")  # the name of a visitor is no name for a file here
            path.write_bytes(upload.content)
            try:
                if what == "photo":
                    workspace.open_photo(path, upload.name)
                else:
                    workspace.open_labels(path, upload.name, confidence)
            except _EXPECTED as error:
                text = one_line(error).replace(str(path), upload.name).replace(folder, "")
                raise ValueError(text.replace("`", "")) from None
    except OSError as error:  # its words name folders of the server
        why = os.strerror(error.errno) if error.errno else "no place for temporary files"
        raise ValueError(f"{upload.name}: the server cannot keep it: {why}") from None


def _copy_name(photo: Photo) -> str | None:
    """Of a file of the pixels that are worked on, which a visitor has not."""
    if photo.example:
        return photo.name
    if not photo.is_copy:
        return None
    height, width = photo.pixels.shape[:2]
    return f"{Path(photo.name).stem}_{width}x{height}.png"


def _notes(workspace: Workspace) -> list[str]:
    photo = workspace.photo
    assert photo is not None
    notes = [note.partition(" (`")[0] for note in photo.notes]
    height, width = photo.pixels.shape[:2]
    if (height, width) != photo.size:
        notes.append(
            f"the page works on a copy of {width} x {height} pixels; the command below takes all "
            f"{photo.size[1]} x {photo.size[0]}"
        )
    labelling = workspace.labelling
    if labelling is not None and labelling.mode == "scribbles" and len(labelling.given.labels) < 2:
        notes.append("paint with a second label, too: of one alone all pixels are its own")
    if labelling is not None and labelling.mode == "file":
        notes += [labelling.given.what, *labelling.given.notes]
    return notes


def _result(workspace: Workspace) -> dict[str, Any]:
    labelling, refined = workspace.labelling, workspace.refined
    assert labelling is not None and refined is not None
    before, after = _shares(refined.before), _shares(refined.after)
    labels = [
        {
            "label": label,
            "name": labelling.name(label),
            "colour": "#" + labelling.colours[label].tobytes().hex(),
            "before": before.get(label, 0.0),
            "after": after.get(label, 0.0),
        }
        for label in labelling.given.labels.tolist()
    ]
    known = refined.before != UNSURE if labelling.mode != "network" else np.True_
    return {
        "version": workspace.version,
        "mode": labelling.mode,
        "milliseconds": round(refined.seconds * 1e3),
        "changed": float(np.mean((refined.before != refined.after) & known)),
        "iterations": workspace.settings.iterations,
        "labels": labels,
        "python": python_code(workspace),
        "command": command(workspace),
    }


def _shares(labels: np.ndarray) -> dict[int, float]:
    counts = viz.count_labels(labels)
    return {i: float(counts[i] / labels.size) for i in np.flatnonzero(counts).tolist()}
