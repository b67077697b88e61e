"""How a knowledge-graph embedding scores (head h, relation r, tail t): four models, one inner product.

- `distmult` (Yang et al. 2015): <h * r, t>.
- `complex` (Trouillon et al. 2016): Re <h * r, conj t>, complex vectors kept as (real part, imaginary part).
- `transe` (Bordes et al. 2013): -|h + r - t|² = 2 <h + r, t> - |t|² - |h + r|².
- `rotate` (Sun et al. 2019): -|h * r - t|² with |r_i| = 1, complex: 2 <h * r, t> - |t|² - |h|².

The two distances are squared Euclidean here, while their papers take the plain (or the Manhattan) one. The square is
a sum over entries, so it splits into an inner product, a term of the candidate alone, which is one more column, and a
term of the question alone, which ranks nothing. Scoring is then a matrix product, which is what makes training against
thousands of shared negatives affordable on a CPU, and nearest-neighbour search able to answer.

Heads are asked for by relations of their own (see `links_data`), so only "given h and r, which t" is ever scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any


class Kge(StrEnum):
    """The models, by their name in a spec."""

    TRANSE = "transe"
    DISTMULT = "distmult"
    COMPLEX = "complex"
    ROTATE = "rotate"

    @property
    def is_complex(self) -> bool:
        """Whether vectors have a real and an imaginary half."""
        return self in (Kge.COMPLEX, Kge.ROTATE)

    @property
    def is_distance(self) -> bool:
        """Whether -|t|² belongs to the score of a candidate t."""
        return self in (Kge.TRANSE, Kge.ROTATE)


def question_vectors(kind: Kge, given: Any, relation: Any, join: Callable[[Sequence[Any]], Any]) -> Any:
    """What candidates are multiplied with, [m, d], from vectors of the given nodes and of relations, [m, d] each.

    Arrays or tensors; `join` puts two [m, d / 2] side by side. Relations of `rotate` are (cosines, sines).
    """
    match kind:
        case Kge.TRANSE:
            return 2 * (given + relation)
        case Kge.DISTMULT:
            return given * relation
    half = given.shape[1] // 2
    a, b, c, d = given[:, :half], given[:, half:], relation[:, :half], relation[:, half:]
    product = join((a * c - b * d, a * d + b * c))
    return 2 * product if kind is Kge.ROTATE else product
