"""Nets to and from a hub, or a folder as it has them: `config.json` and `model.safetensors`.

Through the `PyTorchModelHubMixin` of huggingface_hub, which is imported where one of these
functions is called and not before: `pip install 'deeplab_native[hub]'`. The weights file is one of
`weights.save`, complete in itself; `config.json` says the same for people and for the hub's counts.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from .models import DeepLab
from .weights import Metadata, check_file, load_model, read_metadata, save
from .weights.digest import check_sha256, digest_in_name

_FILE = "model.safetensors"


def save_pretrained(model: DeepLab, folder: str | os.PathLike[str], **arguments: Any) -> str | None:
    """Writes `config.json`, `model.safetensors` and, if there is none, a model card `README.md`.

    Args:
        model: a net of `create_model`.
        folder: made where it is missing.
        arguments: of `ModelHubMixin.save_pretrained`, such as `push_to_hub=True, repo_id=...`.

    Returns:
        The URL of the commit if it was pushed, else None.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError, OSError: as `weights.save`.
    """
    result: str | None = _adapter()(model).save_pretrained(
        Path(folder), config=_config(model), **arguments
    )
    return result


def push_to_hub(model: DeepLab, repo_id: str, **arguments: Any) -> str:
    """Makes the repository where it is missing, and commits what `save_pretrained` writes.

    Args:
        model: a net of `create_model`.
        repo_id: "user/name".
        arguments: of `ModelHubMixin.push_to_hub`, such as `token`, `private`, `commit_message`.

    Returns:
        The URL of the commit.

    Raises:
        ImportError: huggingface_hub is not installed.
        Exception: what huggingface_hub raises.
    """
    url: str = _adapter()(model).push_to_hub(repo_id, config=_config(model), **arguments)
    return url


def from_pretrained(
    name_or_folder: str | os.PathLike[str], *, sha256: str | None = None, **arguments: Any
) -> DeepLab:
    """The net that `save_pretrained` or `push_to_hub` wrote, in evaluation mode.

    Only `model.safetensors` is read, no pickled file in any case. What was downloaded must have the
    SHA-256 that the hub says of it, also when it comes from the cache. Whoever can write to the
    repository can change both: `sha256`, or a commit's hash as `revision`, pins what you looked at.

    Args:
        name_or_folder: a folder, or "user/name" of a repository.
        sha256: of `model.safetensors`, 64 hexadecimal digits; compared before anything of the file
            is parsed.
        arguments: of `ModelHubMixin.from_pretrained` (`revision`, `token`, `cache_dir`,
            `force_download`, `local_files_only`), and options of `create_model`.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError, OSError: the file has another SHA-256 (both are named), is missing, damaged or
            not ours, see `weights.load`.
        Exception: what huggingface_hub raises for a download.
    """
    adapter = _adapter()
    path = Path(name_or_folder)
    # what has the form of a repository's name is left to huggingface_hub
    if not path.is_dir() and (path.is_absolute() or len(path.parts) > 2 or path.parts[0] == ".."):
        raise FileNotFoundError(f"{path}: no such folder (check the path)")
    model: DeepLab = adapter.from_pretrained(name_or_folder, sha256=sha256, **arguments).net
    return model


def _config(model: DeepLab) -> dict[str, Any]:
    """The metadata of the weights file with its values as JSON.

    Raises what `weights.save` does, before huggingface_hub touches the folder.
    """
    if any(p.is_meta for p in model.parameters()):
        raise ValueError("model: a net on the meta device has no weights to save")
    texts = ("format", "model")
    header = Metadata.of(model).header()
    return {key: v if key in texts else json.loads(v) for key, v in header.items()}


@cache
def _adapter() -> Any:
    """The class that huggingface_hub talks to.

    The nets do not inherit from its mixin: that would import it with the package, and its
    constructor keeps the arguments of `__init__`, while a net is made by name in `create_model`.
    """
    try:
        from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
    except ImportError as error:
        raise ImportError(
            "folders and repositories of a hub need huggingface_hub "
            "(pip install 'deeplab_native[hub]')"
        ) from error

    class HubModel(
        PyTorchModelHubMixin,
        library_name="deeplab_native",
        pipeline_tag="image-segmentation",
        paper_url="https://arxiv.org/abs/1606.00915",
        tags=["deeplab", "semantic-segmentation"],
    ):
        def __init__(self, net: DeepLab) -> None:  # no name of the configuration's
            self.net = net

        def _save_pretrained(self, save_directory: Path) -> None:
            save(self.net, save_directory / _FILE)

        @classmethod
        def _from_pretrained(
            cls,
            *,
            model_id: str,
            revision: str | None,
            cache_dir: str | Path | None,
            force_download: bool,
            local_files_only: bool,
            token: str | bool | None,
            sha256: str | None = None,
            **options: Any,
        ) -> HubModel:
            path = Path(model_id) / _FILE
            said = None
            if not Path(model_id).is_dir():
                path = Path(
                    hf_hub_download(
                        repo_id=model_id,
                        filename=_FILE,
                        revision=revision,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        token=token,
                        local_files_only=local_files_only,
                    )
                )
                said = digest_in_name(path)
            check_file(path, sha256)
            if sha256 is None and said is not None:
                check_sha256(path, said, said="but the hub says")
            read_metadata(path)  # load_model would read files of others, too
            return cls(load_model(path, **options).eval())

    return HubModel
