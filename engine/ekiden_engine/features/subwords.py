"""Parts of words, as fastText cuts and numbers them, so that an unseen word gets a vector from saved arrays alone.

Bojanowski, Grave, Joulin and Mikolov, "Enriching Word Vectors with Subword Information", TACL 2017.
"""

from __future__ import annotations

from collections.abc import Iterator

_OFFSET, _PRIME, _MASK = 2_166_136_261, 16_777_619, 0xFFFF_FFFF


def buckets_of(word: str, least: int, most: int, buckets: int) -> list[int]:
    """The bucket of each run of `least` to `most` characters of `<word>`; the bounds alone are no run."""
    return [value % buckets for value in _hashes(word, least, most)]


def _hashes(word: str, least: int, most: int) -> Iterator[int]:
    """32-bit FNV-1a over the UTF-8 bytes; fastText takes each byte as signed, which matters beyond ASCII."""
    signed = [
        [byte if byte < 128 else byte | 0xFFFF_FF00 for byte in character.encode("utf-8", "surrogatepass")]
        for character in f"<{word}>"
    ]
    last = len(signed) - 1
    for start in range(len(signed)):
        value = _OFFSET
        for end in range(start, min(start + most, len(signed))):
            for byte in signed[end]:
                value = (value ^ byte) * _PRIME & _MASK
            length = end - start + 1
            if length >= least and not (length == 1 and (start == 0 or end == last)):
                yield value
