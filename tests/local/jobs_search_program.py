"""The part of `ekiden-engine train` that a search is about: plan, fit, save, and the line that tells how good it is."""

from __future__ import annotations

from ekiden_engine.graph import EncodedGraph
from ekiden_engine.hpo_training import plan_training
from ekiden_engine.log import log
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.models.base import CurvePoint, Step
from ekiden_engine.spec_file import read_spec


class Log:
    """A `Progress` that goes on to the end."""

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        """Nothing: the script's own lines are in the log."""

    def note(self, message: str) -> None:
        """One line."""
        log(message)

    def stop_requested(self) -> bool:
        """Never."""
        return False


def main() -> None:
    """Train for the first target."""
    root = MlRoot.from_environment()
    training = plan_training(read_spec(root.channel("spec")), root.hyperparameters(), root.channel("processed"))
    graph = EncodedGraph.load(root.channel("processed"))
    target = graph.targets[0]
    fit = training.fit(graph, target, Log())
    root.model.mkdir(parents=True, exist_ok=True)
    fit.predictor.save(root.model)
    line = training.objective_line(fit, graph, target)
    if line is not None:
        log(line)


if __name__ == "__main__":
    main()
