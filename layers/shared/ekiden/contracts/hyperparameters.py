"""The hyperparameters of each model: names, types, ranges, defaults and meanings, in one place.

``ekiden validate``, ``POST /runs`` and the training job all check against this table; docs/hyperparameters.md lists it.
Names are Neptune ML's where it has them. Values are checked as text, because SageMaker delivers text.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ekiden.contracts.base import MAX_ECHO, Fault, path_of, shorten

Value = bool | int | float | str | None
"""A hyperparameter as the engine uses it; None is ``auto``."""

AUTO: Final = "auto"
PLATFORM_PREFIX: Final = ("sagemaker_", "_tuning_")
"""Keys that the SageMaker SDK and tuning jobs add by themselves; they are none of the model's."""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One entry: its kind is ``bool``, ``int`` or ``float`` with inclusive bounds, or ``str`` with ``choices``;
    ``auto`` is a value or not."""

    name: str
    default: Value
    meaning: str
    minimum: float = 0
    maximum: float = 0
    kind: type[bool] | type[int] | type[float] | type[str] = float
    auto: bool = False
    choices: tuple[str, ...] = ()

    @property
    def accepted(self) -> str:
        """What it takes, in words: ``a whole number from 1 to 1024``."""
        if self.kind is bool:
            return f"true, false or {AUTO}" if self.auto else "true or false"
        if self.kind is str:
            return f"one of {', '.join((*self.choices, AUTO) if self.auto else self.choices)}"
        kind = "a whole number" if self.kind is int else "a number"
        return f"{kind} from {self.minimum:.10g} to {self.maximum:.10g}" + (f", or {AUTO}" if self.auto else "")

    def parse(self, text: str) -> Value:
        """The value that ``text`` stands for; it may be quoted, as the SageMaker SDK does.

        Raises:
            ValueError: it is not ``accepted``.
        """
        plain = text.strip().strip('"').lower()
        if self.auto and plain == AUTO:
            return None
        if self.kind is bool:
            if plain not in {"true", "false", "1", "0"}:
                raise self._refused(text)
            return plain in {"true", "1"}
        if self.kind is str:
            if plain.replace("_", "-") not in self.choices:
                raise self._refused(text)
            return plain.replace("_", "-")
        try:
            number = float(plain)
        except ValueError:
            raise self._refused(text) from None
        if not math.isfinite(number) or not self.minimum <= number <= self.maximum:
            raise self._refused(text)
        if self.kind is int and not number.is_integer():
            raise self._refused(text)
        return int(number) if self.kind is int else number

    def _refused(self, text: str) -> ValueError:
        return ValueError(f"must be {self.accepted}, not {shorten(text.strip())}")


LINK_LOSSES: Final = ("cross-entropy", "bpr", "contrastive")

RGCN: Final = (
    Hyperparameter(
        "num-hidden",
        None,
        "Width of a node's vector; wider learns finer taste and takes longer; auto: 32 for edges, 64 for nodes and "
        "links",
        1,
        1024,
        int,
        auto=True,
    ),
    Hyperparameter(
        "num-epochs",
        None,
        "Most passes over the training rows; early stopping usually ends it; auto: 60 for edges, 300 for nodes (fewer "
        "with a fanout, where a pass has many steps), for links 15 or more (30 with a fanout)",
        1,
        10_000,
        int,
        auto=True,
    ),
    Hyperparameter(
        "lr",
        None,
        "Learning rate of Adam; auto: 0.002 for edges (halved every 20 epochs), 0.02 for nodes, 0.005 for links "
        "(falls to zero)",
        1e-6,
        1,
        auto=True,
    ),
    Hyperparameter(
        "dropout",
        None,
        "Share of a vector's entries that are hidden in each step; auto: 0 for edges; for nodes 0.5, or 0.1 if that "
        "validates clearly better",
        0,
        0.9,
        auto=True,
    ),
    Hyperparameter(
        "batch-size",
        None,
        "Training edges per step, questions (node and relation) per step for links, with a fanout training nodes per "
        "step; auto: a sixteenth of the edges, 64 at least, with a fanout 8,192 at most; a 64th of the questions, 512 "
        "at least, with a fanout 2,048 at most; 16 to 1,024 nodes",
        1,
        100_000_000,
        int,
        auto=True,
    ),
    Hyperparameter(
        "fanout",
        None,
        "Neighbours sampled per node, relation and step (a propagation of nodes: that many random walks, 32 at least); "
        "0: all of them; auto: 0 if training on all fits into memory, else 32",
        0,
        100_000,
        int,
        auto=True,
    ),
    Hyperparameter(
        "regularization-coef",
        None,
        "Strength of the L2 penalty; auto tries 1, 3 and 9 on the validation edges, is 0.2 for links; not for nodes",
        0,
        10_000,
        auto=True,
    ),
    Hyperparameter("enable-early-stop", True, "Stop once the validation rows get no better", kind=bool),
    Hyperparameter(
        "window-for-early-stop",
        None,
        "Epochs without improvement before that; auto: 6 for edges, 50 for nodes, 3 for links",
        1,
        10_000,
        int,
        auto=True,
    ),
    Hyperparameter(
        "seed", 0, "Seed of the split and of the first member; the same seed, the same model", 0, 2**31 - 1, int
    ),
    Hyperparameter(
        "seeds", 6, "Members of the ensemble, trained with consecutive seeds and averaged; not for links", 1, 64, int
    ),
    Hyperparameter(
        "num-layer",
        None,
        "Relational layers; auto compares candidates on the validation rows (see propagation-steps); nodes only",
        0,
        3,
        int,
        auto=True,
    ),
    Hyperparameter(
        "propagation-steps",
        None,
        "Steps in which answers spread along all edges after the layers; auto compares none and 10 on the "
        "validation rows; nodes only",
        0,
        100,
        int,
        auto=True,
    ),
    Hyperparameter(
        "concat-node-embed",
        None,
        "Free vectors for the nodes of all types, not only for neighbours without features; auto compares both on the "
        "validation rows; nodes only",
        kind=bool,
        auto=True,
    ),
    Hyperparameter(
        "num-bases", 0, "Matrices that those of the relations are mixed from; 0: each its own; nodes only", 0, 64, int
    ),
    Hyperparameter("use-self-loop", True, "Whether a layer passes a node's own vector on; nodes only", kind=bool),
    Hyperparameter(
        "use-class-weight", False, "Every class weighs the same in training, however rare; not for links", kind=bool
    ),
    Hyperparameter(
        "weight-decay",
        None,
        "L2 weight of the matrices and free vectors; auto: 0.005, or 0.0005 if that validates clearly better; nodes "
        "only",
        0,
        1,
        auto=True,
    ),
    Hyperparameter(
        "loss",
        "cross-entropy",
        "cross-entropy: softmax over the candidates; bpr: answers above negatives, pair by pair; contrastive: on "
        "either side of a margin, hard negatives count more; links only",
        kind=str,
        choices=LINK_LOSSES,
    ),
    Hyperparameter(
        "num-negs",
        None,
        "Candidates that a batch is held against, shared by its questions; auto: all up to 20,000, else 1,024; links "
        "only",
        1,
        1_000_000,
        int,
        auto=True,
    ),
    Hyperparameter("gamma", 0.0, "Margin of the contrastive loss; links only", 0, 1000),
    Hyperparameter(
        "closed-form",
        True,
        "Fit EASE and iALS beside the encoder and blend what validation says; links only",
        kind=bool,
    ),
)

FM: Final = (
    Hyperparameter(
        "num-hidden",
        15,
        "Width of a node's vector; wider learns finer taste and takes longer; one less than a multiple of 8 is "
        "quickest",
        1,
        255,
        int,
    ),
    Hyperparameter("num-epochs", 300, "Iterations of the Gibbs sampler, warm-up and burn-in included", 1, 10_000, int),
    Hyperparameter(
        "burn-in",
        None,
        "Draws to drop after the warm-up of 10 iterations; auto: 5, fewer where num-epochs leaves fewer",
        0,
        10_000,
        int,
        auto=True,
    ),
    Hyperparameter(
        "regularization-coef", 1.0, "Multiplies the precisions that the priors of the vectors expect", 1e-3, 1_000
    ),
    Hyperparameter(
        "mean-rank", 64, "Width of the vectors that the draws' mean is folded into for serving", 1, 1024, int
    ),
    Hyperparameter("seed", 0, "Seed of the split and of the draws; the same seed, the same model", 0, 2**31 - 1, int),
)


FM_WARM_UP: Final = 10
"""Iterations of ``fm`` that its burn-in comes after."""


def _kge(regularization: float) -> tuple[Hyperparameter, ...]:
    """Knowledge-graph embeddings; they differ in how much regularisation they want."""
    return (
        Hyperparameter(
            "num-hidden",
            128,
            "Width of a vector; complex and rotate have as many real and as many imaginary entries",
            1,
            4096,
            int,
        ),
        Hyperparameter(
            "num-epochs",
            None,
            "Passes over the training links, over which the learning rate falls to zero; auto: 8, more where a pass "
            "has few batches",
            1,
            10_000,
            int,
            auto=True,
        ),
        Hyperparameter("lr", 0.1, "Learning rate of Adagrad", 1e-6, 10),
        Hyperparameter(
            "batch-size",
            None,
            "Questions (given node and relation) per step; auto: 1,024, fewer where there are few",
            1,
            1_000_000,
            int,
            auto=True,
        ),
        Hyperparameter(
            "num-negs",
            None,
            "Candidates that a batch is held against, shared by its questions; auto: all up to 20,000, else 4,096; 256 "
            "for bpr and contrastive",
            1,
            1_000_000,
            int,
            auto=True,
        ),
        Hyperparameter(
            "loss",
            "cross-entropy",
            "cross-entropy: softmax over the candidates; bpr: answers above negatives, pair by pair; contrastive: on "
            "either side of a margin, hard negatives count more",
            kind=str,
            choices=LINK_LOSSES,
        ),
        Hyperparameter(
            "gamma",
            None,
            "Margin of the contrastive loss; auto: 12 for transe and rotate, 0 for distmult and complex",
            0,
            1000,
            auto=True,
        ),
        Hyperparameter("regularization-coef", regularization, "Weight of the nuclear 3-norm penalty", 0, 100),
        Hyperparameter("enable-early-stop", True, "Stop once the validation links get no better", kind=bool),
        Hyperparameter("window-for-early-stop", 3, "Epochs without improvement before that", 1, 10_000, int),
        Hyperparameter(
            "seed", 0, "Seed of the split and of the start; the same seed, the same model", 0, 2**31 - 1, int
        ),
    )


KGE: Final[Mapping[str, tuple[Hyperparameter, ...]]] = {
    "transe": _kge(0.02),
    "distmult": _kge(0.1),
    "complex": _kge(0.1),
    "rotate": _kge(0.02),
}

HYPERPARAMETERS: Final[Mapping[str, Mapping[str, Hyperparameter]]] = {
    model: {entry.name: entry for entry in entries}
    for model, entries in {"rgcn": RGCN, "mf": RGCN, "fm": FM, **KGE}.items()
}
"""Model to name to entry."""


def as_text(value: bool | int | float | str) -> str:
    """A value of a spec as SageMaker delivers it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def hyperparameter_faults(model: str, given: Mapping[str, bool | int | float | str]) -> tuple[Fault, ...]:
    """Everything wrong with ``given``, each with its path in the spec; nothing about a model that is unknown."""
    table = HYPERPARAMETERS.get(model)
    if table is None:
        return ()
    faults = []
    for name, value in given.items():
        if name.startswith(PLATFORM_PREFIX):
            continue
        path = path_of(("model", "hyperparameters", name))
        if name not in table:
            faults.append(Fault(path, unknown_name(name, model)))
            continue
        try:
            table[name].parse(as_text(value))
        except ValueError as error:
            faults.append(Fault(path, str(error)))
    if model == "fm" and not faults:
        faults += _nothing_left_to_draw(given)
    return tuple(faults)


def _nothing_left_to_draw(given: Mapping[str, bool | int | float | str]) -> Iterator[Fault]:
    """A burn-in of ``fm`` that drops every draw: the model would be the last one alone."""
    table = HYPERPARAMETERS["fm"]
    epochs, burn_in = (
        table[name].parse(as_text(given[name])) if name in given else table[name].default
        for name in ("num-epochs", "burn-in")
    )
    if isinstance(burn_in, int) and isinstance(epochs, int) and FM_WARM_UP + burn_in >= epochs:
        message = (
            f"{burn_in} after the warm-up of {FM_WARM_UP} iterations leaves no draw of num-epochs {epochs}: "
            f"give num-epochs above {FM_WARM_UP + burn_in}, or a smaller burn-in"
        )
        yield Fault(path_of(("model", "hyperparameters", "burn-in")), message)


def unknown_name(name: str, model: str) -> str:
    """What to say of a hyperparameter that the model does not have: the one that is meant, or all there are."""
    table = HYPERPARAMETERS[model]
    near = difflib.get_close_matches(name[:MAX_ECHO].lower().replace("_", "-"), table, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(table))}"
    return f"{model} has no such hyperparameter; {hint}"
