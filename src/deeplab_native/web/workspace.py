"""What one visitor has: photograph, labellings, and the CRF's results; each is computed once.

A photograph has up to three labellings: of a network, of scribbles, of a file. A network's scores
are computed once, so that other parameters cost the CRF alone, and the same parameters nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from .. import viz
from .._images import fromarray, read_picture
from .._masks import UNSURE
from ..crf import CRFParams, MeanField
from ..jobs import CRFSettings, ScoreFormat
from ..jobs._label_map import LabelMap
from ..jobs._refine_image import Refined
from ..jobs.scores import Masks
from .given import MODES, Labelling, LabelsPhoto, Photo
from .limits import Limits, check_labelling, check_photo
from .scribbles import Scribbles

MOST_ITERATIONS = 30  # what is computed cannot be stopped
_NORMALIZATION = "symmetric"
_TOP_SCORE = 10.0  # where the colours of the score maps end


@dataclass
class Workspace:
    """What is computed when, for one visitor; not for two threads at once.

    Attributes:
        limits: what it may hold.
        net: labels a photograph by the network of a name.
        photo: the last one; None before the first.
        photos, version: count the photographs and the results.
    """

    limits: Limits
    net: LabelsPhoto
    photo: Photo | None = None
    photos: int = 0
    version: int = 0
    labelling: Labelling | None = None
    settings: CRFSettings = field(default_factory=CRFSettings)
    refined: Refined | None = None
    _kept: dict[str, tuple[object, Labelling]] = field(default_factory=dict)
    _energies: tuple[Labelling, torch.Tensor] | None = None
    _beliefs: tuple[tuple[int, int], np.ndarray] | None = None

    def open_photo(self, path: Path, name: str) -> None:
        """Raises ValueError or OSError where it cannot be used; then nothing has changed."""
        check_photo(path, self.limits)
        picture = read_picture(path)
        self.set_photo(picture.pixels, name, picture.notes)

    def set_photo(
        self, pixels: np.ndarray, name: str, notes: tuple[str, ...] = (), *, example: bool = False
    ) -> None:
        """All that was known of another photograph goes."""
        size = pixels.shape[0], pixels.shape[1]
        height, width = self.limits.working_size(*size)
        if (height, width) != size:
            pixels = np.array(fromarray(pixels).resize((width, height), reducing_gap=3.0))
        self.photo = Photo(name, pixels, size, notes, example)
        self.photos += 1
        self._kept.clear()
        self._forget()

    def open_labels(self, path: Path, name: str, confidence: float) -> None:
        """Labels or scores of the photograph, as `jobs.ScoreFormat` recognises them."""
        photo = self._photo()
        check_labelling(path, self.limits)
        given = ScoreFormat().read_any(path, photo.size, Masks(confidence))
        labels = given.labels
        self._check_labels(len(labels))
        if isinstance(given, LabelMap):
            given = given._replace(values=given.whole(photo.pixels.shape[:2]))
        names: tuple[str, ...] = viz.VOC_CLASSES if len(labels) == len(viz.VOC_CLASSES) else ()
        if len(labels) == 2 and labels.tolist() == [0, 1]:
            names = ("background", "foreground")
        self._kept["file"] = None, Labelling("file", given, names, viz.voc_palette(), name)

    @property
    def has_file(self) -> bool:
        """Whether there is a file of labels of this photograph."""
        return "file" in self._kept

    def label(self, mode: str, net: str, scribbles: Scribbles, confidence: float) -> None:
        """Makes the labelling of a mode the one that is refined; ValueError where it is not there.

        Args:
            mode: of `MODES`.
            net: the name of the network, of that mode.
            scribbles: what is drawn, of that mode.
            confidence: how often scribbles, or the labels of a file, are right.
        """
        photo = self._photo()
        if mode not in MODES:
            raise ValueError(f"labelling: expected one of {', '.join(MODES)}, got {mode!r}")
        if mode == "file" and not self.has_file:
            raise ValueError("labelling: no file yet (drop a label PNG or scores)")
        key: object = net if mode == "network" else scribbles
        kept = self._kept.get(mode)
        if mode != "file" and (kept is None or kept[0] != key):
            made = (
                self.net(net, photo.pixels) if mode == "network" else self._drawn(scribbles, photo)
            )
            self._check_labels(len(made.given.labels))
            self._kept[mode] = key, made
        labelling = self._kept[mode][1]
        if isinstance(labelling.given, LabelMap):
            if len(labelling.given.labels) > 1:
                Masks(confidence)  # checks it
            given = labelling.given._replace(confidence=confidence)
            labelling = labelling._replace(given=given)
        if self.labelling is None or not _same(labelling, self.labelling):
            self._forget()
            self.labelling = labelling

    def refine(self, params: CRFParams, iterations: int) -> Refined:
        """The labels before and after the CRF; of the last parameters without computing anything.

        `Refined.q` are the marginals (L, H, W) of the labels of the labelling.
        """
        if iterations > MOST_ITERATIONS:
            raise ValueError(f"iterations: expected at most {MOST_ITERATIONS}, got {iterations}")
        settings = CRFSettings(params, iterations, _NORMALIZATION)
        if self.refined is not None and settings == self.settings:
            return self.refined
        unary, image = self._crf_inputs()
        labels = self._labelling().given.labels
        start = perf_counter()
        # of one label everywhere there is nothing to decide
        alone = unary.shape[1] == 1
        q = (torch.ones_like(unary) if alone else settings.refine(unary, image))[0]
        seconds = perf_counter() - start
        before = self._labelling().given.before(unary)
        self.settings, self._beliefs = settings, None
        self.refined = Refined(q, before, labels[q.max(0).indices.numpy()], seconds)
        self.version += 1
        return self.refined

    def score_map(self, label: int) -> np.ndarray:
        """(H, W) float32 in -1..1: how far a label is ahead of the best other one, before the CRF.

        In units of the scores, from -10 to 10: -1 and 1 are that and all beyond.
        """
        unary = self._crf_inputs()[0][0]
        row = self._row(label)
        others = torch.cat([unary[:row], unary[row + 1 :]])
        if not len(others):
            return np.ones(unary.shape[1:], np.float32)
        ahead = others.min(0).values - unary[row]
        scaled = torch.nan_to_num(ahead, 0.0).clamp(-_TOP_SCORE, _TOP_SCORE) / _TOP_SCORE
        found: np.ndarray = scaled.numpy()
        return found

    def belief(self, label: int, iteration: int) -> np.ndarray:
        """(H, W) uint8: a label's Q after an iteration, 255 for 1; all iterations are kept."""
        self._refined()
        if not 0 <= iteration <= self.settings.iterations:
            raise ValueError(
                f"iteration {iteration}: expected 0 to {self.settings.iterations}, those of the CRF"
            )
        row = self._row(label)
        key = self.version, row
        if self._beliefs is None or self._beliefs[0] != key:
            self._beliefs = key, self._trace(row)
        found: np.ndarray = self._beliefs[1][iteration]
        return found

    def nbytes(self) -> int:
        """Of memory, about. Others may ask while it is at work, so each part is taken once."""
        photo, refined = self.photo, self.refined
        size = 0 if photo is None else photo.pixels.nbytes
        size += sum(one.given.values.nbytes for _, one in tuple(self._kept.values()))
        size += sum(made[1].nbytes for made in (self._energies, self._beliefs) if made is not None)
        if refined is not None and refined.q is not None:
            size += refined.q.nbytes + refined.before.nbytes + refined.after.nbytes
        return size

    def _trace(self, row: int) -> np.ndarray:
        """(iterations + 1, H, W) uint8."""
        unary, image = self._crf_inputs()
        if unary.shape[1] == 1:
            shape = (self.settings.iterations + 1, *unary.shape[2:])
            return np.full(shape, 255, np.uint8)
        crf = MeanField.from_image(unary, image, self.settings.params, normalization=_NORMALIZATION)
        q = crf.start()
        maps = [_as_bytes(q[0, row])]
        for _ in range(self.settings.iterations):
            q = crf.step(q)
            maps.append(_as_bytes(q[0, row]))
        return np.stack(maps)

    def _drawn(self, scribbles: Scribbles, photo: Photo) -> Labelling:
        values = scribbles.draw(*photo.pixels.shape[:2])
        if (values == UNSURE).all():
            raise ValueError("labelling: nothing is drawn yet (paint a little of every label)")
        given = LabelMap(values, "scribbles", 0.5, said=True)
        colours = scribbles.palette(viz.voc_palette())
        return Labelling("scribbles", given, scribbles.names(), colours)

    def _crf_inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies (1, L, H, W) and the photograph (1, 3, H, W)."""
        labelling, photo = self._labelling(), self._photo()
        size = photo.pixels.shape[0], photo.pixels.shape[1]
        if self._energies is None or self._energies[0] is not labelling:
            self._energies = labelling, labelling.given.energies(size).contiguous()
        image = torch.from_numpy(photo.pixels).permute(2, 0, 1)[None]
        return self._energies[1], image

    def _check_labels(self, labels: int) -> None:
        height, width = self._photo().pixels.shape[:2]
        if labels * height * width > self.limits.values:
            raise ValueError(
                f"labels: {labels} of {width} x {height} pixels are too many for the page "
                "(deeplab-native crf takes them)"
            )

    def _row(self, label: int) -> int:
        labels = self._labelling().given.labels.tolist()
        if label not in labels:
            raise ValueError(f"label {label}: expected one of {', '.join(map(str, labels))}")
        return int(labels.index(label))

    def _forget(self) -> None:
        self.labelling = self.refined = self._energies = self._beliefs = None

    def _photo(self) -> Photo:
        if self.photo is None:
            raise ValueError("photograph: none yet (drop one, or take the example)")
        return self.photo

    def _labelling(self) -> Labelling:
        if self.labelling is None:
            raise ValueError("labelling: none yet (choose a network, draw, or drop a file)")
        return self.labelling

    def _refined(self) -> Refined:
        if self.refined is None:
            raise ValueError("result: none yet")
        return self.refined


def _as_bytes(belief: torch.Tensor) -> np.ndarray:
    found: np.ndarray = (belief * 255).round().to(torch.uint8).numpy()
    return found


def _same(one: Labelling, other: Labelling) -> bool:
    """Whether they are refined alike; arrays are compared as objects."""
    if one.mode != other.mode or one.given.values is not other.given.values:
        return False
    return getattr(one.given, "confidence", None) == getattr(other.given, "confidence", None)
