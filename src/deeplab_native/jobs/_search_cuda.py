"""The search on a GPU: images of one size together, the next ones read meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from .. import _C
from ..crf.candidates import CandidateCounts, Fixed, Sample
from ..crf.search import Candidate
from ..ops._lattice_cuda import images_at_once
from ._search_files import Item
from ._search_image import CountedImage, Loader, sparse

# Results come at most after so many candidates: what a run that is ended loses
_CANDIDATES_AT_ONCE = 64


def count_on_device(
    loader: Loader,
    todo: Mapping[Item, list[Candidate]],
    sizes: Mapping[Item, tuple[int, int, int]],
    fixed: Fixed,
    device: str,
) -> Iterator[tuple[Item, list[CountedImage]]]:
    """Results of every image and candidate that is missing; sizes are (labels, height, width).

    An image whose batch has another one that lacks a candidate is counted with it once more.
    """
    batches = list(_batches({i: c for i, c in todo.items() if c}, sizes, device))
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(_read, loader, batch) for batch in batches[:1]]
        for number, batch in enumerate(batches):
            sample = ahead.pop().result()
            ahead = [reader.submit(_read, loader, b) for b in batches[number + 1 : number + 2]]
            prepared = CandidateCounts(Sample(*(part.to(device) for part in sample)), fixed)
            missing = list(dict.fromkeys(c for item in batch for c in todo[item]))
            missing.sort(key=lambda c: (c.sigma_alpha, c.sigma_beta, c.w1))
            for first in range(0, len(missing), _CANDIDATES_AT_ONCE):
                results = list(prepared.count(missing[first : first + _CANDIDATES_AT_ONCE]))
                for b, item in enumerate(batch):
                    yield (
                        item,
                        [
                            CountedImage(r.candidate, r.vertices[b], sparse(r.counts[b].numpy()))
                            for r in results
                            if r.candidate in todo[item]
                        ],
                    )


def _batches(
    todo: Mapping[Item, list[Candidate]],
    sizes: Mapping[Item, tuple[int, int, int]],
    device: str,
) -> Iterator[list[Item]]:
    """As many images of one size at once as the lattices' memory is for."""
    groups = defaultdict(list)
    for item in todo:
        groups[sizes[item]].append(item)
    like = torch.empty(0, device=device)
    for (labels, height, width), items in groups.items():
        rows = _C.mean_field_width_cuda(labels)
        most = images_at_once(like, height * width, [2, 5], rows, len(items))
        for first in range(0, len(items), most):
            yield items[first : first + most]


def _read(loader: Loader, batch: list[Item]) -> Sample:
    """On the CPU."""
    samples = [loader(item) for item in batch]
    return Sample(*(torch.cat(parts) for parts in zip(*samples, strict=True)))
