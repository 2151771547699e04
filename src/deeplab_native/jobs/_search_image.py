"""What a worker process does for a search."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from ..crf.candidates import CandidateCounts, Fixed, Sample, count_scores
from ..crf.search import Candidate, Grid
from ..ops.pairwise_features import PixelFeatures
from ._search_files import FolderLoader, Item
from .scores import least_bytes

# Of a module, and picklable: workers get it with every job
Loader = Callable[[Item], Sample]


class Sparse(NamedTuple):
    """Counts (2, L, L) of one image, which has few of the classes."""

    at: list[int]
    numbers: list[int]

    def add_to(self, counts: np.ndarray) -> None:
        counts.reshape(-1)[self.at] += self.numbers


def sparse(counts: np.ndarray) -> Sparse:
    at = np.flatnonzero(counts)
    return Sparse(at.tolist(), counts.reshape(-1)[at].tolist())


class CheckJob(NamedTuple):
    loader: Loader
    item: Item
    grid: Grid
    fixed: Fixed

    @property
    def name(self) -> str:
        return self.item.name

    def need(self) -> int:
        return _need(self.item)


class Checked(NamedTuple):
    """An image that can be used."""

    digest: str
    size: tuple[int, int, int]  # labels, height, width
    before: Sparse  # of the scores alone
    about: dict[str, Any]  # how its files were read, where they are files


def check(job: CheckJob) -> Checked:
    """Reads one image and counts its scores; raises where the search would, later."""
    torch.set_num_threads(1)
    digest = job.item.digest()
    about: dict[str, Any] = {}
    if isinstance(job.loader, FolderLoader):
        sample, about = job.loader.read(job.item)
    else:
        sample = job.loader(job.item)
    _, num_labels, height, width = sample.unary.shape
    counts = count_scores(sample, job.fixed)[0].numpy()
    _check_sigmas(sample, job)
    return Checked(digest, (num_labels, height, width), sparse(counts), about)


def _check_sigmas(sample: Sample, job: CheckJob) -> None:
    """ValueError where the coarse grid's smallest sigmas are too small for a lattice."""
    alpha, beta = min(job.grid.sigma_alpha), min(job.grid.sigma_beta)
    kernels = {
        f"sigma_gamma {job.fixed.sigma_gamma:g}": PixelFeatures(
            sample.image[:, :0], job.fixed.sigma_gamma
        ),
        f"sigma_alpha {alpha:g} and sigma_beta {beta:g}": PixelFeatures(sample.image, alpha, beta),
    }
    for name, features in kernels.items():
        try:
            features.check(0, name)
        except ValueError:
            raise ValueError(f"{name}: too small for the lattice (give larger ones)") from None


class CountJob(NamedTuple):
    """Candidates on one image; those of the same sigmas stand together."""

    loader: Loader
    item: Item
    candidates: tuple[Candidate, ...]
    fixed: Fixed
    threads: int

    @property
    def name(self) -> str:
        return self.item.name

    def need(self) -> int:
        return _need(self.item)


def _need(item: Item) -> int:
    """Bytes of memory that an image takes at the least; 0 where its files do not say."""
    if len(item.files) < 2:
        return 0
    image, scores, *_ = item.files
    return least_bytes(image, scores)


class CountedImage(NamedTuple):
    """What one candidate makes of one image."""

    candidate: Candidate
    vertices: int  # of the bilateral lattice
    counts: Sparse


def count(job: CountJob) -> list[CountedImage]:
    torch.set_num_threads(job.threads)
    prepared = _prepared(job.loader, job.item, job.fixed, job.threads)
    return [
        CountedImage(one.candidate, one.vertices[0], sparse(one.counts[0].numpy()))
        for one in prepared.count(job.candidates)
    ]


# The next job of a worker is often of the same image: its energies and its Gaussian lattice stay
@lru_cache(maxsize=1)
def _prepared(loader: Loader, item: Item, fixed: Fixed, threads: int) -> CandidateCounts:
    return CandidateCounts(loader(item), fixed)
