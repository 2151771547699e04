"""`jobs.ray.segment` and `jobs.ray.refine`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from os import fspath
from pathlib import Path
from typing import Any, Literal

from ...crf import CRFParams
from ...models import DeepLab
from ...weights import EMBEDDED
from .._progress import Progress
from .._refine_image import Settings as RefineSettings
from .._segment_asked import Asked, names_of_classes
from .._segment_image import Net
from ..scores import CONFIDENCE, ScoreFormat
from ..settings import CRFSettings, FromWeights
from ._cluster import check_ray, connected
from ._how import How
from ._inputs import Inputs, find
from ._run import Done, run
from ._samples import Columns
from ._store import Store, filesystem
from ._work import Refine, Segment


@dataclass(frozen=True)
class RayResult:
    """What a run on Ray has done.

    Attributes:
        images: that have a mask since this run.
        skipped: images that an earlier run had finished.
        failures: images that could not be used, and shards that could not be read to their end.
        failed: why, by SHARD/KEY or SHARD; the first 1000. The manifest has all images.
        shards: units that were finished.
        pixels, changed: of the images of this run, all pixels, and of `refine` those with another
            label.
        restarts: how often a worker died, and a unit was begun again.
        output: the folder of results.
        class_names: by label, of `segment`; else None.
        settings: what decided the labels.
        workers, threads, gpus: processes, and what each had.
        seconds: of this run, the start of the workers included.
        rate: images a second.
    """

    images: int
    skipped: int
    failures: int
    failed: dict[str, str]
    shards: int
    pixels: int
    changed: int
    restarts: int
    output: str
    class_names: tuple[str, ...] | None
    settings: dict[str, Any]
    workers: int
    threads: int
    gpus: float
    seconds: float

    @property
    def rate(self) -> float:
        """Images a second, the start of the workers included."""
        return self.images / max(1e-9, self.seconds)


def segment(
    images: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    address: str | None = None,
    model: str | DeepLab | None = None,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    multi_scale: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    longest_side: int | None = None,
    crf: CRFParams | CRFSettings | FromWeights | Literal["weights"] | None = "weights",
    palette: str | None = None,
    exif: bool = True,
    masks: str = "png",
    shard_images: int = 256,
    image_column: str | None = None,
    key_column: str = "key",
    on_error: str = "skip",
    gpus: float | None = None,
    batch: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> RayResult:
    """Labels every pixel of photographs, on a cluster.

    Args:
        images: tar shards, Parquet files or pictures, or folders of them; paths or URLs of fsspec,
            also with `*` and `{000..127}`.
        output: folder for the results, a path or a URL that all workers can write to.
        model, weights, num_classes, multi_scale, tile, overlap, longest_side, crf, palette, exif:
            as of `jobs.segment`. The weights are read here and sent to the workers.
        address, masks, shard_images, image_column, key_column, on_error, gpus, batch, resume,
            overwrite, workers, threads, memory, progress, cancel: see `deeplab_native.jobs.ray`.

    Raises:
        ImportError: Ray is not there.
        ConnectionError: no cluster is at the address.
        ValueError, OSError: arguments that do not go together, inputs that are not there, results
            of other settings; before anything is written. With `on_error` "stop", the first image
            or shard that cannot be used.
        RuntimeError: workers cannot start, or the cluster is gone.
        Cancelled: `cancel` said so.
    """
    check_ray()
    how = How(
        masks, shard_images, Columns(image_column, key_column), on_error, gpus, batch, resume,
        overwrite, workers, threads, memory, progress, cancel,
    )  # fmt: skip
    asked = Asked(
        model, weights, num_classes, multi_scale, tile, overlap, longest_side, crf, palette, exif,
        "cpu",
    )  # fmt: skip
    inputs, store = _ends(images, None, output, refine=False)
    net, network, settings = asked.load()
    names = names_of_classes(network)
    record = {**_of_net(net, network, model), **settings.as_record()}
    work = Segment(network, settings)
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    classes = {str(i): name for i, name in enumerate(names)}
    with connected(address, size):
        done = run("segment", inputs, work, store, record, how, classes)
    return _result(done, store, record, names)


def refine(
    images: str | Path | Sequence[str | Path],
    scores: str | Path | None,
    output: str | Path,
    *,
    address: str | None = None,
    crf: CRFParams | CRFSettings | None = None,
    scores_format: ScoreFormat | None = None,
    palette: str = "voc",
    confidence: float = CONFIDENCE,
    exif: bool = True,
    masks: str = "png",
    shard_images: int = 256,
    image_column: str | None = None,
    key_column: str = "key",
    scores_column: str | None = None,
    on_error: str = "skip",
    gpus: float | None = None,
    batch: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> RayResult:
    """Refines the scores of every image that has some, on a cluster.

    Args:
        images: as of `segment`.
        scores: of pictures, the folder of their scores or masks, by name; None: beside the images,
            in the same tar shards (KEY.jpg and KEY.npy) or Parquet files (a column of the bytes of
            such a file).
        output: as of `segment`.
        crf, scores_format, palette, confidence, exif: as of `jobs.refine`.
        address, masks, shard_images, image_column, key_column, scores_column, on_error, gpus,
            batch, resume, overwrite, workers, threads, memory, progress, cancel: see
            `deeplab_native.jobs.ray`.

    Raises what `segment` does.
    """
    check_ray()
    how = How(
        masks, shard_images, Columns(image_column, key_column, scores_column), on_error, gpus,
        batch, resume, overwrite, workers, threads, memory, progress, cancel,
    )  # fmt: skip
    settings = RefineSettings(
        CRFSettings() if crf is None else CRFSettings.of(crf),
        scores_format or ScoreFormat(),
        palette,
        confidence,
        exif,
    )
    inputs, store = _ends(images, scores, output, refine=True)
    record = {"scores": None if scores is None else fspath(scores), **settings.as_record()}
    with connected(address):
        done = run("refine", inputs, Refine(settings), store, record, how)
    return _result(done, store, record, None)


def _ends(
    images: str | Path | Sequence[str | Path],
    scores: str | Path | None,
    output: str | Path,
    *,
    refine: bool,
) -> tuple[Inputs, Store]:
    """Where it comes from and where it goes, which is not the same folder."""
    several = [images] if isinstance(images, str | Path) else images
    given = [_url(path) for path in several]
    beside = None if scores is None or [fspath(scores)] == given else _url(scores)
    if not given:
        raise ValueError("`images`: expected at least one path")
    inputs = find(given, beside, refine=refine)
    store = Store(_url(output))
    if store.path() in {filesystem(folder)[1].rstrip("/") for folder in inputs.folders}:
        raise ValueError(
            f"`output` {output}: results would lie among the inputs (give another folder)"
        )
    return inputs, store


def _url(path: str | Path) -> str:
    """Paths of this machine from its root: a worker's current folder is another."""
    text = fspath(path)
    return text if "://" in text else str(Path(text).absolute())


def _of_net(net: Net, network: DeepLab, model: object) -> dict[str, Any]:
    """What decides its labels: by content, as files lie elsewhere on other machines."""
    if network is model:
        digest = sha256()
        for name, tensor in network.state_dict().items():
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return {"model": network.name, "weights": digest.hexdigest()}
    file = EMBEDDED if net.embedded else net.weights
    digest = sha256(b"" if net.random or file is None else file.read_bytes())
    return {**net.as_record(), "weights": "random" if net.random else digest.hexdigest()}


def _result(
    done: Done, store: Store, record: Mapping[str, Any], names: tuple[str, ...] | None
) -> RayResult:
    outcome, todo, share, seconds = done
    return RayResult(
        outcome.images, todo.skipped, outcome.failures, outcome.failed, outcome.shards,
        outcome.pixels, outcome.changed, outcome.restarts, store.url, names, dict(record),
        share.workers, share.threads, share.gpus, seconds,
    )  # fmt: skip
