"""`features.json` and the files beside it: every fitted encoder of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ekiden_engine.errors import BadData
from ekiden_engine.features.encoders import AnyEncoder, EdgeEncoders, EdgeType, FittedEncoder
from ekiden_engine.features.stored import Store, StoredEncoder
from ekiden_engine.features.tfidf import TfidfEncoder
from ekiden_engine.features.word_vectors import WordVectorEncoder

FOLDER = "features"
"""Beside `features.json`: `features/<n>.parquet` and `features/<n>.safetensors` of encoders of text."""


class FeatureBook(BaseModel):
    """`features.json`: the encoders of every node and edge type; their columns stand side by side in this order."""

    model_config = ConfigDict(frozen=True)

    version: Literal["ekiden.features.v1"] = "ekiden.features.v1"
    nodes: dict[str, tuple[FittedEncoder, ...]]
    edges: tuple[EdgeEncoders, ...] = ()

    def encoders(self, kind: str | EdgeType) -> tuple[AnyEncoder, ...]:
        """The encoders of a node label or edge type, in the order of their columns; none if it has no features."""
        if isinstance(kind, str):
            return self.nodes.get(kind, ())
        return next((entry.encoders for entry in self.edges if entry.edge == kind), ())

    def files(self) -> tuple[str, ...]:
        """The files beside `features.json`, once saved, relative to its folder."""
        stems = [e.file for e in self._all() if isinstance(e, StoredEncoder)]
        return tuple(f"{stem}{ending}" for stem in stems for ending in (".parquet", ".safetensors"))

    def save(self, path: Path) -> None:
        """Write the book to `path`, and the files of text encoders into the folder `features` beside it."""
        number = 0

        def saved(encoders: tuple[AnyEncoder, ...]) -> tuple[AnyEncoder, ...]:
            nonlocal number
            kept: list[AnyEncoder] = []
            for encoder in encoders:
                if isinstance(encoder, TfidfEncoder | WordVectorEncoder):
                    stem = f"{FOLDER}/{number}"
                    encoder.store.save(path.parent / stem)
                    encoder = encoder.saved_as(stem)
                    number += 1
                kept.append(encoder)
            return tuple(kept)

        book = FeatureBook(
            nodes={label: saved(encoders) for label, encoders in self.nodes.items()},
            edges=tuple(EdgeEncoders(edge=entry.edge, encoders=saved(entry.encoders)) for entry in self.edges),
        )
        path.write_text(book.model_dump_json(indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> FeatureBook:
        """Read a book and its files. Raises `BadData` CORRUPT_ARTIFACT."""
        try:
            book = cls.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{path.name}: {str(error)[:200]}") from error
        for encoder in book._all():
            if not isinstance(encoder, StoredEncoder):
                continue
            if not encoder.file:
                raise BadData("CORRUPT_ARTIFACT", f"{path.name}: {encoder.column[:100]} names no file")
            try:
                encoder.attach(Store.load(path.parent / encoder.file))
            except ValueError as error:
                raise BadData("CORRUPT_ARTIFACT", f"{encoder.file}: {str(error)[:200]}") from error
        return book

    def _all(self) -> Iterator[AnyEncoder]:
        for encoders in self.nodes.values():
            yield from encoders
        for entry in self.edges:
            yield from entry.encoders
