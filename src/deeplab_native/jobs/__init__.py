"""Work over many images: refine scores, segment photographs, evaluate, search CRF parameters.

Each job takes folders and writes files, on worker processes, and keeps a record in its output
folder: the same call goes on where an interrupted one stopped. The command line is made of these
functions; `jobs.ray` has `segment` and `refine` for a cluster. (For one picture in memory, as
array, PIL image or tensor, there is `deeplab_native.refine`.) They have these arguments in common:

- `resume`: whether to go on from what is in the output folder; else results there are an error
- `overwrite`: whether to begin anew in a folder that has results
- `workers`: processes, each with an image in memory; None: one for each core, on a GPU one; 0:
  none, all is done in this process
- `threads`: CPU threads of each process; None: the cores, shared among the workers; with none as
  many as torch has
- `memory`: bytes for all images that are worked on at the same time; None: what is free now. An
  image that needs more is done alone
- `progress`: called with a `Progress` at the start and after every image, in the caller's thread
- `cancel`: asked between images, a few times a second: once it is true all workers are ended and
  `Cancelled` is raised. `threading.Event().is_set` is one

`evaluate` and `search_crf` also have:

    report      whether report.html is written, too: one file with tables, figures and pictures
    command     what the report says to repeat it by

Images that cannot be used are named in the result, or in an `ImagesFailedError` where there is no
result without them. An argument in a message is in backticks.

A script that calls them with workers does so under `if __name__ == "__main__":`, as every script
does that uses `multiprocessing`.
"""

from . import ray
from ._progress import Cancelled, ImagesFailedError, Progress
from .evaluate import EvaluateResult, evaluate
from .refine import RefineResult, refine
from .scores import ScoreFormat
from .search_crf import SearchResult, search_crf
from .segment import SegmentResult, segment
from .settings import CRFSettings

__all__ = [
    "CRFSettings",
    "Cancelled",
    "EvaluateResult",
    "ImagesFailedError",
    "Progress",
    "RefineResult",
    "ScoreFormat",
    "SearchResult",
    "SegmentResult",
    "evaluate",
    "ray",
    "refine",
    "search_crf",
    "segment",
]
