"""How good a model is: figures per split beside honest baselines, for every task.

`evaluate` is what the training job calls for each target; its `document()` is the target's entry in evaluation.json.
What the figures mean: docs/evaluation.md.
"""

from __future__ import annotations

from ekiden.contracts.tasks import Task
from ekiden_engine.evaluation_environment import environment as environment
from ekiden_engine.evaluation_environment import split_rule as split_rule
from ekiden_engine.evaluation_held_out import NODE_STATUSES as NODE_STATUSES
from ekiden_engine.evaluation_held_out import SCORED as SCORED
from ekiden_engine.evaluation_held_out import STATUSES as STATUSES
from ekiden_engine.evaluation_held_out import HeldOutLinks as HeldOutLinks
from ekiden_engine.evaluation_held_out import HeldOutValues as HeldOutValues
from ekiden_engine.evaluation_held_out import TargetEvaluation as TargetEvaluation
from ekiden_engine.evaluation_held_out import status_codes as status_codes
from ekiden_engine.evaluation_words import FEW_EDGES as FEW_EDGES
from ekiden_engine.evaluation_words import few_rows_warning as few_rows_warning
from ekiden_engine.evaluation_words import headline as headline
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import Predictor
from ekiden_engine.predictions import write_predictions as write_predictions

VERSION = "ekiden.evaluation.v2"
PREDICTIONS_FILE = "predictions.parquet"
EVALUATION_FILE = "evaluation.json"


def evaluate(graph: EncodedGraph, target: Target, predictor: Predictor) -> TargetEvaluation:
    """Predict the held-out rows of one target as the endpoint would, and fit the baselines on its training rows.

    The headline is about test rows; without any about validation rows, else about training rows. `predictor` is the
    kind that the target's task asks for. Raises `BadData` DIVERGED if it says anything but numbers.
    """
    if target.task is Task.LINK_PREDICTION:
        from ekiden_engine.evaluation_links import evaluate_links

        return evaluate_links(graph, target, predictor)
    from ekiden_engine.evaluation_values import evaluate_values

    return evaluate_values(graph, target, predictor)
