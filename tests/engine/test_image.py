"""The container image, as far as can be told without building it: its files are enough, its pins are tested."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

from tests.engine.factories import SMALL_GRAPH, make_document, make_job

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "engine/Dockerfile").read_text()


def test_the_files_that_the_image_copies_are_all_that_a_job_needs(tmp_path: Path) -> None:
    # GIVEN a tree laid out by the Dockerfile's own COPY lines, and a job
    for source, target in re.findall(r"^COPY (\S+) (/opt/ekiden/\S+)$", DOCKERFILE, re.MULTILINE):
        copy = tmp_path / target.removeprefix("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, copy)
    job = make_job(tmp_path / "ml", SMALL_GRAPH, make_document())
    # WHEN the engine runs from that tree, away from the repository
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "opt/ekiden"), "EKIDEN_ML_ROOT": str(job.root)}
    probe = "import sys, ekiden_engine.cli as c; print(c.__file__); sys.exit(c.main(['export']))"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # THEN it does the job with what the image has
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert json.loads((job.processing_output("export") / "stats.json").read_text())["stats"]["nodes"] == 5


def test_the_image_installs_exactly_the_versions_that_were_tested() -> None:
    lines = (ROOT / "engine/requirements.txt").read_text().splitlines()
    pins = {
        r.name.lower(): str(r.specifier) for line in lines if line[:1] not in ("#", "") for r in [Requirement(line)]
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in map(Requirement, project):
        if requirement.name.lower() in pins:
            assert str(requirement.specifier) == pins[requirement.name.lower()]
    assert pins == {name: f"=={version(name).split('+')[0]}" for name in pins}


def test_what_the_image_compiles_when_it_is_built_stays_beside_the_code() -> None:
    # GIVEN what the Dockerfile runs, and whose cache it makes writable
    found = re.search(
        r'^RUN touch .* (\S+) \\\n +&& python -c "([^"]+)" \\\n +&& chmod \S+ \S+ (\S+)$', DOCKERFILE, re.M
    )
    assert found is not None
    source, code, cache = found.groups()
    # WHEN it is run on this tree
    exec(code, {})
    # THEN both loops lie in the cache of that source
    here = ROOT / "engine" / Path(source).relative_to("/opt/ekiden")
    assert here.is_file()
    assert Path(cache) == Path(source).parent / "__pycache__"
    compiled = {path.name.split("-")[0] for path in (here.parent / "__pycache__").glob("*.nbi")}
    assert compiled >= {"fm_kernels.sample_nodes", "fm_kernels.sample_coefficients"}


def test_the_image_starts_the_engine_for_every_job() -> None:
    assert 'ENTRYPOINT ["ekiden-engine"]' in DOCKERFILE
    assert 'exec python -m ekiden_engine "$@"' in DOCKERFILE
    assert DOCKERFILE.index("ARG BASE_IMAGE=python:3.11-slim") < DOCKERFILE.index("FROM ${BASE_IMAGE}")
