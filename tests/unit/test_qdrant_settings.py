"""Where Qdrant is, from the names that RAE already uses; and which embedding fits which vector."""

from __future__ import annotations

import pytest

from rae_jobctl.errors import ConfigError
from rae_jobctl.tasks.vectors.embeddings import fitting, parse
from rae_jobctl.vectors.settings import QdrantSettings


def test_unset_is_not_configured() -> None:
    assert QdrantSettings.from_env({}) is None
    assert QdrantSettings.from_env({"QDRANT_URL": " ", "QDRANT_HOST": "", "QDRANT_PORT": "6333"}) is None


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({"QDRANT_URL": "https://qdrant.example/"}, "https://qdrant.example"),
        ({"QDRANT_HOST": "qdrant"}, "http://qdrant:6333"),
        ({"QDRANT_HOST": "qdrant", "QDRANT_PORT": "7000"}, "http://qdrant:7000"),
        ({"QDRANT_HOST": "http://qdrant:6333"}, "http://qdrant:6333"),
        ({"QDRANT_HOST": "https://cloud", "QDRANT_PORT": "7000"}, "https://cloud"),
        ({"QDRANT_HOST": "fd00::1"}, "http://[fd00::1]:6333"),
        ({"QDRANT_URL": "http://a:1", "QDRANT_HOST": "b"}, "http://a:1"),
    ],
)
def test_a_url_wins_and_a_host_may_be_one(env: dict[str, str], url: str) -> None:
    settings = QdrantSettings.from_env(env)
    assert settings is not None
    assert (settings.url, settings.collection) == (url, "memories")


@pytest.mark.parametrize(
    "env",
    [
        {"QDRANT_URL": "qdrant:6333"},
        {"QDRANT_URL": "grpc://qdrant:6334"},
        {"QDRANT_URL": "http://qdrant:port"},
        {"QDRANT_URL": "http://u:secret@qdrant"},
        {"QDRANT_HOST": "http://"},
        {"QDRANT_HOST": "qdrant", "QDRANT_PORT": "0"},
    ],
)
def test_what_is_no_server_is_refused_by_name(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="QDRANT_") as raised:
        QdrantSettings.from_env(env)
    assert "secret" not in raised.value.message


def test_the_key_is_in_no_text_of_the_settings() -> None:
    assert "hidden" not in repr(QdrantSettings.from_env({"QDRANT_HOST": "q", "QDRANT_API_KEY": "hidden"}))


def test_a_vector_takes_the_one_embedding_of_its_dimension() -> None:
    sizes = {"dense": 2, "nomic": 3}
    assert fitting([1.0, 2.0], {}, sizes) == {"dense": [1.0, 2.0]}
    assert fitting([1.0, 2.0], {"other": [1.0, 2.0, 3.0]}, sizes) == {"dense": [1.0, 2.0], "nomic": [1.0, 2.0, 3.0]}
    assert fitting([1.0], {"m": [1.0, 2.0, 3.0, 4.0]}, sizes) == {}


def test_what_would_be_a_guess_is_left_out() -> None:
    two_models = {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    assert fitting(None, two_models, {"dense": 2}) == {}
    assert fitting([5.0, 6.0], two_models, {"dense": 2}) == {"dense": [5.0, 6.0]}
    assert fitting([1.0, 2.0], {}, {"x": 2, "y": 2}) == {}
    assert fitting([1.0, 2.0], {"y": [3.0, 4.0]}, {"x": 2, "y": 2}) == {"y": [3.0, 4.0]}


def test_only_finite_numbers_are_an_embedding() -> None:
    assert parse("[1,2.5]") == [1.0, 2.5]
    assert [parse(text) for text in (None, "", "[]", "[1,NaN]", "{", "3", '["a"]')] == [None] * 7
