"""`text_sbert`, `text_sbert128`, `text_sbert512`: sentence embeddings of a transformer, by sentence-transformers.

The package is an extra, and the model is a folder that an image carries (`EKIDEN_SBERT_MODELS`); nothing is downloaded.
The fitted encoder holds the folder's name and the SHA-256 of its files, not the model: serving needs the same folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from ekiden.contracts.feature_config import FeatureConfig
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.features.base import Encoder, FloatMatrix

MODELS_VARIABLE: Final = "EKIDEN_SBERT_MODELS"
DEFAULT_MODELS: Final = "/opt/ekiden/sbert"
MODEL_MARK: Final = "modules.json"
"""Every model folder of sentence-transformers has it."""

LENGTHS: Final = {"text_sbert": 128, "text_sbert128": 128, "text_sbert512": 512}
BATCH: Final = 64

_lock = Lock()


class SbertEncoder(Encoder):
    """The embedding of a text's first `length` tokens. A missing text is a row of zeros.

    Texts are embedded in batches of similar length, so a text alone and the same text among others differ in the last
    bits (1e-6).
    """

    kind: Literal["text_sbert"] = "text_sbert"
    model: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    length: Annotated[int, Field(ge=1, le=100_000)]
    dimensions: Annotated[int, Field(ge=1, le=100_000)]

    @classmethod
    def fit(cls, config: FeatureConfig, values: pa.ChunkedArray) -> SbertEncoder:
        """Nothing is learnt from `values`: take note of the model. Raises `BadData`: see `find_model`, `_load`."""
        folder = find_model(config.model)
        width = _load(folder).get_embedding_dimension()
        return cls(
            column=config.column,
            model=folder.name,
            sha256=fingerprint(folder),
            length=LENGTHS[config.kind],
            dimensions=int(width),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """`property[i]` per dimension."""
        return tuple(f"{self.column}[{i}]" for i in range(self.dimensions))

    def transform(self, values: pa.ChunkedArray) -> FloatMatrix:
        """See `Encoder.transform`. Raises `BadData`: WRONG_TEXT_MODEL if the folder has other files than at training;
        those of `find_model`."""
        column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        encoded = column.dictionary_encode()  # equal texts are embedded once
        matrix = np.zeros((len(column), self.dimensions), dtype=np.float32)
        if not len(encoded.dictionary):
            return matrix
        _require_package()
        folder = self._folder()
        with _lock:  # the length is the model's state
            model = _load(folder)
            model.max_seq_length = min(self.length, _most_tokens(model))
            vectors = model.encode(
                encoded.dictionary.to_pylist(), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True
            )
        present = pc.is_valid(column).to_numpy(zero_copy_only=False)
        codes = encoded.indices.drop_null().to_numpy(zero_copy_only=False)
        matrix[present] = np.asarray(vectors, dtype=np.float32)[codes]
        return matrix

    def _folder(self) -> Path:
        """The folder whose files are those of training, whatever its name is here."""
        named = [folder for folder in _folders() if folder.name == self.model]
        for folder in [*named, *_folders()]:
            if fingerprint(folder) == self.sha256:
                return folder
        if not named:
            find_model(self.model)  # says what there is
        raise BadData(
            "WRONG_TEXT_MODEL",
            f"{self.column[:100]}: the files of model folder {quoted(self.model)} differ from those at training",
        )


def is_available() -> bool:
    """Whether the package is there and exactly one model folder, so that `auto` may choose SBERT."""
    return importlib.util.find_spec("sentence_transformers") is not None and len(_folders()) == 1


def find_model(name: str | None) -> Path:
    """The folder of model `name`, or the only one there is.

    Raises `BadData` MISSING_PACKAGE, NO_TEXT_MODEL.
    """
    _require_package()
    folders = _folders()
    found = [folder for folder in folders if name in (None, folder.name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(quoted(folder.name) for folder in folders[:8]) or "no model folder"
    wanted = "one model" if name is None else f"model {quoted(name)}"
    raise BadData(
        "NO_TEXT_MODEL",
        f"text_sbert needs {wanted} below {_home()} ({listed} there): put a model folder of sentence-transformers into "
        f"the image, or name its parent in {MODELS_VARIABLE}" + (", and name it with model" if len(found) > 1 else ""),
    )


def _require_package() -> None:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise BadData("MISSING_PACKAGE", "text_sbert needs the package sentence-transformers (extra: sbert)")


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and SHA-256 of all files of `folder`."""
    state = tuple(
        (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    return _hashed(folder, state)


@lru_cache(maxsize=8)
def _hashed(folder: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for name, _, _ in state:
        with (folder / name).open("rb") as stream:
            whole.update(f"{name}\n{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _home() -> Path:
    return Path(os.environ.get(MODELS_VARIABLE) or DEFAULT_MODELS)


def _folders() -> list[Path]:
    """The model folders below the home of models, or that home itself if it is one."""
    home = _home()
    if (home / MODEL_MARK).is_file():
        return [home]
    return sorted(mark.parent for mark in home.glob(f"*/{MODEL_MARK}"))


@lru_cache(maxsize=2)
def _load(folder: Path) -> Any:
    """The model, on the processor. Raises `BadData` NO_TEXT_MODEL if sentence-transformers cannot read the folder."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is first imported: a folder is all it gets
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(
            str(folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},  # never a pickled checkpoint
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BadData("NO_TEXT_MODEL", f"{quoted(folder.name)} cannot be read: {str(error)[:200]}") from error


def _most_tokens(model: Any) -> int:
    """What the transformer has positions for; a folder may set less by default, but not more."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return int(getattr(config, "max_position_embeddings", None) or 512)
