"""The pipeline spec as a job finds it: `spec.json` in an input folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

from ekiden.contracts.spec import PipelineSpec, SpecError, parse_spec
from ekiden_engine.errors import BadData


def read_spec(folder: Path) -> PipelineSpec:
    """Read `spec.json` in `folder`. Raises `BadData` BAD_SPEC with every fault and its path."""
    path = folder / "spec.json"
    try:
        document = json.loads(path.read_text("utf-8"))
        return parse_spec(document, allow_local_source=True)
    except FileNotFoundError as error:
        raise BadData("BAD_SPEC", f"the job has no spec.json in its {folder.name} input") from error
    except SpecError as error:
        raise BadData("BAD_SPEC", f"spec.json: {error}") from error
    except ValueError as error:
        raise BadData("BAD_SPEC", f"spec.json is not JSON: {str(error)[:150]}") from error
