"""Cutting a pairs file into parts of whole lines, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ekiden.errors import ContractViolation

HEADER = b"source,target"
MAX_PART_ROWS = 10_000
MAX_PART_BYTES = 256 * 1024
"""Ten such parts make one endpoint call: 2.5 MiB of the 6 MiB that SageMaker takes, and the answer fits too."""


@dataclass(frozen=True, slots=True)
class Part:
    """Whole lines of a file: bytes ``start`` (inclusive) to ``end`` (exclusive)."""

    start: int
    end: int
    rows: int


def header_length(chunk: bytes) -> int:
    """The length of the header line with its line end.

    Raises:
        ContractViolation: the file does not begin with ``source,target``.
    """
    line, end, _ = chunk.partition(b"\n")
    if line.rstrip(b"\r").removeprefix(b"\xef\xbb\xbf") != HEADER:
        raise ContractViolation(
            f"a pairs file begins with the line 'source,target', found {line[:40]!r}", code="INVALID_PAIRS"
        )
    return len(line) + len(end)


def cut(chunks: Iterable[bytes], start: int) -> Iterator[Part]:
    """Parts of the lines that ``chunks`` hold; ``start`` is the first chunk's offset in the file.

    The same file and the same ``start`` always give the same parts. The last line may lack its line end.

    Raises:
        ContractViolation: a line is longer than ``MAX_PART_BYTES``.
    """
    rest = b""
    for chunk in chunks:
        rest += chunk
        while len(rest) >= MAX_PART_BYTES:
            part, rest = _first_part(rest, start)
            yield part
            start = part.end
    while rest:
        part, rest = _first_part(rest, start)
        yield part
        start = part.end


def _first_part(data: bytes, start: int) -> tuple[Part, bytes]:
    end = rows = 0
    while rows < MAX_PART_ROWS:
        line_end = data.find(b"\n", end, MAX_PART_BYTES) + 1
        if not line_end:
            break
        end = line_end
        rows += 1
    if rows < MAX_PART_ROWS and end < len(data) < MAX_PART_BYTES:
        end, rows = len(data), rows + 1  # the last line of the file has no line end
    if not rows:
        raise ContractViolation(
            f"the line at byte {start} is longer than {MAX_PART_BYTES // 1024} KiB", code="INVALID_PAIRS"
        )
    return Part(start, start + end, rows), data[end:]
