"""What every provider must keep, and how the OpenAI-compatible one bears its endpoint's faults, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError, TransientError
from rae_jobctl.llm.factory import open_provider
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.llm.text import fold, is_quotation
from rae_jobctl.llm.themes import find_themes
from rae_jobctl.llm.types import Memory, Provider, ReflectionKind
from tests.fake_llm.server import FakeLlm, Reply, completion, error, fake_llm
from tests.ml_serving import ml_server


@pytest.fixture
def fake() -> Iterator[FakeLlm]:
    with fake_llm() as running:
        yield running


def settings_for(fake: FakeLlm, provider: ProviderName = ProviderName.OPENAI, **changes: Any) -> LlmSettings:
    base: dict[str, Any] = {"max_retries": 2, "max_wait": 2.0, "timeout": 5.0, "api_key": "sk-test"}
    url = fake.base_url
    return LlmSettings(**{"provider": provider, "model": "fake", "base_url": url, "ml_service_url": url, **base, **changes})


@pytest.fixture(params=[*ProviderName, "serve-ml"])
async def provider(request: pytest.FixtureRequest, fake: FakeLlm) -> AsyncIterator[Provider]:
    """Each provider; the ML service twice, as the fake plays it and as `rae-jobctl serve-ml` is."""
    async with AsyncExitStack() as stack:
        if request.param == "serve-ml":
            url = await stack.enter_async_context(ml_server())
            settings = settings_for(fake, ProviderName.ML_SERVICE, ml_service_url=url)
        else:
            settings = settings_for(fake, request.param)
        opened = open_provider(settings, StopSignal())
        yield opened
        await opened.aclose()


@pytest.fixture
async def openai(fake: FakeLlm) -> AsyncIterator[Provider]:
    opened = open_provider(settings_for(fake), StopSignal())
    yield opened
    await opened.aclose()


def memories(*texts: str) -> list[Memory]:
    return [Memory(uuid4(), text) for text in texts]


# The contract ----------------------------------------------------------------------------------


async def test_each_triple_names_its_memory_and_quotes_it(provider: Provider) -> None:
    given = memories("Alice uses Redis.", "Bob works at Globex.", "Carol maintains Terraform and likes tea.")
    result = await provider.extract(given)
    by_id = {memory.id: memory for memory in given}
    assert {by_id[t.memory_id].content.split()[0].lower() for t in result.triples} == {"alice", "bob", "carol"}
    assert all(is_quotation(t.evidence, fold(by_id[t.memory_id].content)) for t in result.triples)
    assert ("alice", "USE", "redis") in {(t.subject, t.predicate, t.object) for t in result.triples}
    assert not result.failed


async def test_a_memory_without_facts_gives_none_and_does_not_fail(provider: Provider) -> None:
    result = await provider.extract(memories("hi there!", "ok, thanks"))
    assert result.triples == ()
    assert result.failed == {}


async def test_a_fact_stated_twice_is_one_triple(provider: Provider) -> None:
    result = await provider.extract(memories("Alice uses Redis. Every day Alice uses Redis."))
    assert [(t.subject, t.predicate, t.object) for t in result.triples] == [("alice", "USE", "redis")]


async def test_names_and_relations_are_normalised(provider: Provider) -> None:
    result = await provider.extract(memories("Alice works at Acme-Labs."))
    assert [(t.predicate, t.object) for t in result.triples] == [("WORK_AT", "acme labs")]


async def test_no_memories_give_nothing(provider: Provider) -> None:
    assert (await provider.extract([])).triples == ()


@pytest.mark.parametrize("kind", list(ReflectionKind))
async def test_every_insight_rests_on_memories_of_the_input(provider: Provider, kind: ReflectionKind) -> None:
    given = memories(*[f"The nightly backup of PostgreSQL failed on node {n}." for n in range(4)])
    themes = find_themes(given, 3)
    draft = await provider.reflect(themes, kind)
    ids = {memory.id for memory in given}
    assert draft.summary
    assert draft.insights
    for insight in draft.insights:
        assert set(insight.evidence) <= ids
        assert len(insight.evidence) >= 2 or insight.single_source


async def test_an_estimate_makes_no_call(provider: Provider, fake: FakeLlm) -> None:
    given = memories(*["Alice uses Redis."] * 45)
    estimate = provider.estimate_extraction(given)
    provider.estimate_reflection(find_themes(given, 3))
    assert fake.requests == []
    assert estimate.calls >= 0


# Faults of the endpoint ------------------------------------------------------------------------


async def test_it_sends_the_key_a_fixed_prefix_and_a_boundary_that_changes(openai: Provider, fake: FakeLlm) -> None:
    await openai.extract(memories("Alice uses Redis."))
    await openai.extract(memories("Alice uses Redis."))
    first, second = fake.requests
    assert fake.keys == ["Bearer sk-test"] * 2
    assert first["messages"][0] == second["messages"][0]
    assert first["messages"][1] != second["messages"][1]


async def test_usage_of_every_call_is_counted(openai: Provider, fake: FakeLlm) -> None:
    result = await openai.extract(memories(*["Alice uses Redis."] * 45))
    assert result.usage.calls == len(fake.requests) == 3
    assert result.usage.prompt_tokens > 0
    assert result.usage.completion_tokens > 0


@pytest.mark.parametrize(
    "fault", [error(429, "rate_limit_exceeded", retry_after="0"), error(500, "server_error"), error(503, "busy")]
)
async def test_a_passing_failure_is_tried_again(openai: Provider, fake: FakeLlm, fault: Reply) -> None:
    fake.faults.extend([fault, None])
    assert len((await openai.extract(memories("Alice uses Redis."))).triples) == 1
    assert len(fake.requests) == 2


async def test_a_lasting_failure_ends_with_a_transient_error(openai: Provider, fake: FakeLlm) -> None:
    fake.always = lambda request: error(503, "busy")
    with pytest.raises(TransientError, match="503 3 times"):
        await openai.extract(memories("Alice uses Redis."))
    assert len(fake.requests) == 3


async def test_a_wait_beyond_our_patience_ends_at_once(openai: Provider, fake: FakeLlm) -> None:
    fake.always = lambda request: error(429, "rate_limit_exceeded", retry_after="3600")
    with pytest.raises(TransientError, match="3600 s"):
        await openai.extract(memories("Alice uses Redis."))
    assert len(fake.requests) == 1


async def test_a_stop_ends_the_waiting(fake: FakeLlm) -> None:
    stop = StopSignal()
    provider = open_provider(settings_for(fake, max_wait=60.0), stop)
    fake.always = lambda request: error(429, "rate_limit_exceeded", retry_after="50")
    asyncio.get_running_loop().call_later(0.2, stop.set, "SIGTERM")
    with pytest.raises(TransientError, match="stopped"):
        await provider.extract(memories("Alice uses Redis."))
    await provider.aclose()


async def test_a_hanging_endpoint_is_a_timeout_and_tried_again(fake: FakeLlm) -> None:
    provider = open_provider(settings_for(fake, timeout=0.3), StopSignal())
    fake.faults.extend([Reply(hang=1.0), None])
    assert len((await provider.extract(memories("Alice uses Redis."))).triples) == 1
    await provider.aclose()


async def test_an_unreachable_endpoint_is_transient(fake: FakeLlm) -> None:
    settings = LlmSettings(provider=ProviderName.OPENAI, base_url="http://127.0.0.1:9/v1", max_retries=1, max_wait=0.1)
    provider = open_provider(settings, StopSignal())
    with pytest.raises(TransientError, match="a connection error"):
        await provider.extract(memories("Alice uses Redis."))
    await provider.aclose()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (error(401, "invalid_api_key"), "LlmUnauthorized"),
        (error(403, "forbidden"), "LlmUnauthorized"),
        (error(404, "model_not_found"), "LlmModelNotFound"),
        (error(429, "insufficient_quota"), "LlmQuotaExhausted"),
        (error(400, "unknown_parameter", param="foo"), "LlmRequestRefused"),
    ],
)
async def test_a_lasting_refusal_is_a_matter_of_configuration(openai: Provider, fake: FakeLlm, fault: Reply, reason: str) -> None:
    fake.always = lambda request: fault
    with pytest.raises(ConfigError) as caught:
        await openai.extract(memories("Alice uses Redis."))
    assert caught.value.reason == reason
    assert len(fake.requests) == 1


def lacks(*words: str) -> Any:
    """An endpoint that does not know a parameter or a format, as such endpoints answer."""

    def fault(request: Mapping[str, Any]) -> Reply | None:
        for word in words:
            if word in request or word == (request.get("response_format") or {}).get("type"):
                return error(
                    400,
                    "invalid_request_error",
                    param="response_format" if word.startswith("json") else word,
                    message=f"unknown {word}",
                )
        return None

    return fault


@pytest.mark.parametrize(
    ("missing", "asked"),
    [(("json_schema",), 2), (("json_schema", "json_object"), 3), (("max_completion_tokens",), 2), (("temperature",), 2)],
)
async def test_what_an_endpoint_lacks_is_found_out_once(
    openai: Provider, fake: FakeLlm, missing: tuple[str, ...], asked: int
) -> None:
    fake.always = lacks(*missing)
    assert len((await openai.extract(memories("Alice uses Redis."))).triples) == 1
    assert len(fake.requests) == asked
    await openai.extract(memories("Bob uses Kafka."))
    assert len(fake.requests) == asked + 1


async def test_prose_around_the_object_does_no_harm(openai: Provider, fake: FakeLlm) -> None:
    fake.faults.append(completion('Sure!\n```json\n{"t": []}\n```'))
    assert (await openai.extract(memories("Alice uses Redis."))).failed == {}


BAD_REPLIES = {
    "truncated": completion('{"t": [{"i": 1, "s": "Al', finish="length"),
    "invalid": completion('{"t": [}'),
    "no object": completion("I cannot do that"),
    "refused": completion(None, refusal="I cannot help with that"),
    "filtered": completion(None, finish="content_filter"),
    "wrong shape": completion('{"t": "none"}'),
    "duplicate keys": completion('{"t": [], "t": [{"i": 1}]}'),
    "not a completion": Reply(200, b'{"hello": 1}'),
    "no JSON at all": Reply(200, b"<html>"),
    "deep nesting": completion("[" * 5000 + "{}" + "]" * 5000),
    "10 MB": Reply(200, b'{"choices": [{"message": {"content": "' + b"x" * 10_000_000 + b'"}}]}'),
    "too long a prompt": error(400, "context_length_exceeded"),
}


@pytest.mark.parametrize("name", BAD_REPLIES)
async def test_one_poisonous_memory_costs_itself_alone(openai: Provider, fake: FakeLlm, name: str) -> None:
    given = memories("Alice uses Redis.", "POISON uses Venom.", "Bob uses Kafka.", "Carol uses Nginx.", "Dan uses Helm.")
    fake.always = lambda request: BAD_REPLIES[name] if "POISON" in request["messages"][1]["content"] else None
    result = await openai.extract(given)
    assert list(result.failed) == [given[1].id]
    assert {t.subject for t in result.triples} == {"alice", "bob", "carol", "dan"}
    assert len(fake.requests) <= 7


async def test_a_long_memory_fails_as_a_whole(openai: Provider, fake: FakeLlm) -> None:
    given = memories("Alice uses Redis. " * 400 + "POISON uses Venom.")
    fake.always = lambda request: BAD_REPLIES["refused"] if "POISON" in request["messages"][1]["content"] else None
    result = await openai.extract(given)
    assert list(result.failed) == [given[0].id]
    assert result.triples == ()


def claim(**changes: Any) -> dict[str, Any]:
    base = {"i": 1, "s": "Alice", "st": "PERSON", "p": "USE", "o": "Redis", "ot": "TECHNOLOGY", "q": "Alice uses Redis", "c": 0.9}
    return {**base, **changes}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (claim(i=3), "NoSuchMemory"),
        (claim(i=0), "NoSuchMemory"),
        (claim(i="1"), "NoSuchMemory"),
        (claim(i=True), "NoSuchMemory"),
        (claim(i=2), "NoEvidence"),
        (claim(q="Alice loves Redis"), "NoEvidence"),
        (claim(q=""), "NoEvidence"),
        (claim(s="Mallory"), "NotNamed"),
        (claim(o="Alice"), "SelfLoop"),
        (claim(s=None), "Malformed"),
        (claim(c="high"), "Malformed"),
        (claim(c=float("nan")), "Malformed"),
        (claim(p="USE'); DROP TABLE memories; --"), "Malformed"),
        (claim(s="Alice " * 50), "TooLong"),
        (claim(p="USE_" * 40 + "X"), "TooLong"),
    ],
)
async def test_a_wrong_triple_is_rejected_and_counted_alone(
    openai: Provider, fake: FakeLlm, wrong: dict[str, Any], reason: str
) -> None:
    given = memories("Alice uses Redis.", "Bob uses Kafka.")
    right = claim(i=2, s="Bob", o="Kafka", q="Bob uses Kafka")
    fake.faults.append(completion(json.dumps({"t": [wrong, right]})))
    result = await openai.extract(given)
    assert [(t.memory_id, t.subject) for t in result.triples] == [(given[1].id, "bob")]
    assert dict(result.rejected) == {reason: 1}


async def test_confidence_is_kept_within_its_range_and_an_unknown_type_is_other(openai: Provider, fake: FakeLlm) -> None:
    fake.faults.append(completion(json.dumps({"t": [claim(c=7, st="WIZARD")]})))
    (triple,) = (await openai.extract(memories("Alice uses Redis."))).triples
    assert (triple.confidence, triple.subject_type) == (1.0, "OTHER")


async def test_a_batch_keeps_its_token_budget(fake: FakeLlm) -> None:
    provider = open_provider(settings_for(fake, batch_tokens=200), StopSignal())
    await provider.extract(memories(*["Alice uses Redis for the cache of sessions. " * 10] * 4))
    assert len(fake.requests) == 4
    await provider.aclose()


async def test_insights_without_evidence_from_the_input_are_dropped(openai: Provider, fake: FakeLlm) -> None:
    given = memories(*[f"The nightly backup of PostgreSQL failed on node {n}." for n in range(4)])
    made_up = [
        {"text": "Backups fail often.", "evidence": [1, 2, 99], "confidence": 0.9},
        {"text": "The moon is cheese.", "evidence": [77], "confidence": 1},
        {"text": "Only once.", "evidence": [3, 3], "confidence": 2},
    ]
    fake.faults.append(completion(json.dumps({"insights": made_up})))
    draft = await openai.reflect(find_themes(given, 3), ReflectionKind.PATTERN)
    assert [(i.text, len(i.evidence), i.single_source) for i in draft.insights] == [
        ("Backups fail often.", 2, False),
        ("Only once.", 1, True),
    ]
    assert draft.rejected == {"NoEvidence": 1}


async def test_a_prompt_costs_at_most_two_and_a_half_times_its_source_at_batch_20(openai: Provider) -> None:
    # 80 tokens a memory, the size that the cost sketch of docs/extraction.md assumes.
    given = memories(*["Alice uses Redis for the session cache of the shop. " * 6] * 20)
    source = sum(len(memory.content) for memory in given) / 4
    assert openai.estimate_extraction(given).prompt_tokens <= 2.5 * source
