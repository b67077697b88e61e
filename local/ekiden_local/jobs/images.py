"""Which command stands for which container image. There is no Docker here: an image is a program on this machine."""

from __future__ import annotations

import json
import shlex
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .errors import JobFailure, clip


@dataclass(frozen=True, slots=True)
class Image:
    """`command` plays the image's ENTRYPOINT for image URIs that match `pattern` (shell wildcards).

    A job's ContainerEntrypoint whose first word is `program` means this same command, so that
    ``["ekiden-engine", "export"]`` runs on a machine where no such program is on the PATH.
    """

    pattern: str
    command: tuple[str, ...]
    program: str


ENGINE = Image("ekiden-engine:*", (sys.executable, "-m", "ekiden_engine"), "ekiden-engine")


@dataclass(frozen=True, slots=True)
class ImageTable:
    """Images in order of precedence."""

    images: tuple[Image, ...] = (ENGINE,)

    def find(self, uri: str) -> Image:
        """The image for a URI; a registry before the last "/" is ignored unless the pattern names one.

        Raises JobFailure for an image that is not in the table.
        """
        for image in self.images:
            if any(fnmatchcase(name, image.pattern) for name in _names(uri)):
                return image
        known = ", ".join(image.pattern for image in self.images)
        raise JobFailure(
            f"ClientError: Image '{clip(uri)}' is not known to the local job service, which runs programs and no "
            f"containers. Give it a command with --image '{clip(uri)}=COMMAND' or in the --images file. Known: {known}"
        )

    def argv(self, uri: str, entrypoint: Sequence[str], arguments: Sequence[str]) -> list[str]:
        """The command line for an image: like Docker's, an entrypoint replaces the image's own."""
        image = self.find(uri)
        if not entrypoint:
            return [*image.command, *arguments]
        if entrypoint[0] == image.program:
            return [*image.command, *entrypoint[1:], *arguments]
        return [*entrypoint, *arguments]


def _names(uri: str) -> list[str]:
    short = uri.rsplit("/", 1)[-1]
    names = [uri, short]
    if ":" not in short:
        names += [f"{uri}:latest", f"{short}:latest"]
    return names


def _image(pattern: str, command: object, program: object = None) -> Image:
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"image {pattern!r}: the command must be a non-empty string or list of strings")
    if program is not None and not isinstance(program, str):
        raise ValueError(f"image {pattern!r}: program must be a string")
    default = pattern.rsplit("/", 1)[-1].split(":")[0].split("@")[0]
    return Image(pattern, tuple(words), program or default)


def from_option(option: str) -> Image:
    """``NAME=COMMAND`` of the command line. Raises ValueError."""
    pattern, equals, command = option.partition("=")
    if not equals or not pattern:
        raise ValueError(f"--image {option!r}: write it as NAME=COMMAND, e.g. 'my-image:*=python3 my_program.py'")
    return _image(pattern, command)


def from_file(path: Path) -> list[Image]:
    """Images of a TOML or JSON file: ``{"images": {PATTERN: COMMAND | {"command": …, "program": …}}}``.

    Raises ValueError with the file's name for anything that does not fit, OSError where it cannot be read.
    """
    text = path.read_text()
    try:
        document: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        table = document["images"]
        return [
            _image(pattern, entry["command"], entry.get("program"))
            if isinstance(entry, dict)
            else _image(pattern, entry)
            for pattern, entry in table.items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected a table 'images' of name → command ({error!r})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
