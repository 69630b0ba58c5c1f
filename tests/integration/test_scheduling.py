"""process-graph-queue and schedule-reflections against a real database and a real API server with the CRDs."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ConfigError, TransientError
from rae_jobctl.kube import KubeBoard
from rae_jobctl.llm.factory import open_provider
from rae_jobctl.llm.settings import LlmSettings, ProviderName
from rae_jobctl.outcome import Outcome
from rae_jobctl.slots import Slot
from rae_jobctl.tasks.extraction.params import ExtractionParams
from rae_jobctl.tasks.extraction.task import extract_graph
from rae_jobctl.tasks.reflection.params import ReflectionParams
from rae_jobctl.tasks.reflection.task import generate_reflection
from rae_jobctl.tasks.scheduling.queue import QueuePolicy, preview, process_queue
from rae_jobctl.tasks.scheduling.reflections import ReflectionPolicy, schedule_reflections
from tests.apiserver.controlplane import ADMIN_TOKEN, OPERATOR_TOKEN, ControlPlane, control_plane, find_program
from tests.integration.graph_database import PROJECT, TENANT, GraphDatabase, db, slot
from tests.integration.memories import jobctl

__all__ = ["db"]

ROOT = Path(__file__).parents[2]
GXR, RFR = "GraphExtractionRequest", "ReflectionRequest"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A real API server that knows the kinds."""
    folder = Path(tempfile.mkdtemp(prefix="rae-scheduling-"))
    try:
        with control_plane(folder) as started:
            kubectl(started, "apply", "--server-side", "-f", str(ROOT / "k8s" / "crds"))
            kubectl(started, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
            wait_until_served(started)
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kubectl(plane: ControlPlane, *arguments: str) -> str:
    command = [find_program("kubectl"), f"--kubeconfig={plane.kubeconfig}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_until_served(plane: ControlPlane) -> None:
    """A kind is Established a moment before the API server answers for it."""
    for _ in range(100):
        try:
            kubectl(plane, "get", "graphextractionrequests,reflectionrequests", "-n", "default")
        except subprocess.CalledProcessError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("the API server does not serve the kinds")


def account(plane: ControlPlane, namespace: str, token: str = ADMIN_TOKEN) -> dict[str, str]:
    """The environment of a pod with this token, its files as a pod has them."""
    folder = plane.folder / f"account-{namespace}-{token}"
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(f"{token}\n")
    (folder / "namespace").write_text(namespace)
    shutil.copy(plane.folder / "apiserver.crt", folder / "ca.crt")
    port = plane.url.rpartition(":")[2]
    return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port, "RAE_SERVICE_ACCOUNT_DIR": str(folder)}


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    name = f"n-{uuid4().hex[:8]}"
    kubectl(plane, "create", "namespace", name)
    return name


@pytest.fixture
async def board(plane: ControlPlane, namespace: str) -> AsyncIterator[KubeBoard]:
    async with KubeBoard.from_env(account(plane, namespace)) as opened:
        yield opened


def finish(plane: ControlPlane, namespace: str, plural: str) -> None:
    """Play the operator: every request of the namespace ends."""
    for name in kubectl(plane, "get", plural, "-n", namespace, "-o", "name").split():
        condition = '{"type":"Finished","status":"True","reason":"Done","message":"","lastTransitionTime":"2026-11-24T00:00:00Z"}'
        patch = f'{{"status":{{"conditions":[{condition}]}}}}'
        kubectl(plane, "patch", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


async def queue(db: GraphDatabase, board: KubeBoard, *, dry_run: bool = False, at: Slot | None = None) -> Outcome:
    if dry_run:
        return await preview(db.pool, board, QueuePolicy(), None)
    return await process_queue(db.pool, board, QueuePolicy(), slot=at or slot(), stop=StopSignal())


async def reflections(db: GraphDatabase, board: KubeBoard, *, dry_run: bool = False, at: Slot | None = None) -> Outcome:
    return await schedule_reflections(db.pool, board, ReflectionPolicy(), slot=at or slot(), stop=StopSignal(), dry_run=dry_run)


async def test_what_waits_is_asked_for_once_while_the_request_lives(db: GraphDatabase, board: KubeBoard) -> None:
    await db.remember("Alice uses Redis.", "Bob uses Kafka.")
    await db.remember("Carol uses Helm.", project="web")
    first = await queue(db, board)
    assert (first.reason, first.counters["memories"], first.counters["scheduled"]) == ("Done", 3, 2)
    second = await queue(db, board)
    assert (second.reason, second.counters["live"]) == ("NothingToDo", 2)
    assert len(await board.known(GXR)) == 2


async def test_the_request_drains_the_queue_and_then_there_is_nothing_to_do(
    db: GraphDatabase, board: KubeBoard, plane: ControlPlane, namespace: str
) -> None:
    await db.remember("Alice uses Redis.", "Bob uses Kafka.")
    (request,) = (await queue(db, board)).result["requests"]
    params = ExtractionParams(request["tenantId"], request["project"], limit=request["limit"], pending=request["pending"])
    provider = open_provider(LlmSettings(ProviderName.LOCAL), StopSignal())
    await extract_graph(db.pool, provider, params, slot=slot(), stop=StopSignal())
    finish(plane, namespace, "graphextractionrequests")
    last = await queue(db, board)
    assert (last.reason, last.counters["memories"], last.counters["live"]) == ("NothingToDo", 0, 0)


async def test_a_request_that_ended_early_is_followed_by_another_round(
    db: GraphDatabase, board: KubeBoard, plane: ControlPlane, namespace: str
) -> None:
    await db.remember("Alice uses Redis.")
    await queue(db, board)
    finish(plane, namespace, "graphextractionrequests")
    assert (await queue(db, board)).counters["scheduled"] == 1
    assert len(await board.known(GXR)) == 2


async def test_dead_and_leased_memories_and_history_are_asked_for_by_nobody(db: GraphDatabase, board: KubeBoard) -> None:
    dead, leased = await db.remember("POISON", "Alice uses Redis.")
    await db.remember("Old.", graph_extracted=True)
    insert = (
        "INSERT INTO rae_jobs.extraction_state (memory_id, tenant_id, project, dead, leased_until) VALUES ($1, $2, $3, $4, $5)"
    )
    await db.pool.execute(insert, dead, TENANT, PROJECT, True, None)
    await db.pool.execute(insert, leased, TENANT, PROJECT, False, datetime.now(UTC) + timedelta(hours=1))
    outcome = await queue(db, board)
    assert (outcome.reason, outcome.counters["memories"]) == ("NothingToDo", 0)
    (skipped,) = outcome.result["skipped"]
    assert (skipped["project"], skipped["reason"], skipped["held"]) == (PROJECT, "Held", 2)


async def test_a_dry_run_makes_nothing(db: GraphDatabase, board: KubeBoard) -> None:
    await db.remember("Alice uses Redis.", "Bob uses Kafka.", "Carol uses Helm.")
    assert (await queue(db, board, dry_run=True)).counters["scheduled"] == 1
    assert (await reflections(db, board, dry_run=True)).counters["scheduled"] == 1
    assert await board.known(GXR) == []
    assert await board.known(RFR) == []
    assert await db.value("SELECT count(*) FROM rae_jobs.task_runs") == 0


async def test_the_command_makes_requests_and_tells_what_they_cost_and_what_was_skipped(
    db: GraphDatabase, plane: ControlPlane, namespace: str, board: KubeBoard
) -> None:
    await db.remember("Alice uses Redis.", "Bob uses Kafka.")
    await db.remember("Carol uses Helm.", project="web")
    jobctl(db.url, "pause", "queue", "--tenant", "demo-tenant", "--project", "web", "--reason", "spent")
    env = {**account(plane, namespace), "OPENAI_API_KEY": "sk-1"}
    priced = await asyncio.to_thread(jobctl, db.url, "process-graph-queue", "--dry-run", **env)
    assert priced.code == 0, priced.errors
    assert "1 requests due for 3 waiting memories; skipped 1 (Paused)" in priced.output
    assert f"{PROJECT} of {TENANT} with openai: now 2 memories, about" in priced.output
    assert "skipped web" in priced.output
    unset = {**env, "OPENAI_API_KEY": "", "RAE_LLM_PROVIDER": "openai"}
    blind = await asyncio.to_thread(jobctl, db.url, "process-graph-queue", "--dry-run", **unset)
    assert (blind.code, "no estimate of the cost" in blind.output) == (0, True)
    done = await asyncio.to_thread(jobctl, db.url, "process-graph-queue", "--slot", "2026-11-24T02:00Z", "-o", "json", **env)
    assert done.json["counters"]["scheduled"] == 1
    again = await asyncio.to_thread(jobctl, db.url, "process-graph-queue", "--slot", "2026-11-24T02:00Z", "-o", "json", **env)
    assert again.json["reason"] == "AlreadyDone"
    assert len(await board.known(GXR)) == 1


async def test_a_suspended_request_is_known_as_such(
    db: GraphDatabase, plane: ControlPlane, namespace: str, board: KubeBoard
) -> None:
    await db.remember("Alice uses Redis.")
    await queue(db, board)
    (one,) = await board.known(GXR)
    patch = '{"spec":{"suspend":true}}'
    kubectl(plane, "patch", "graphextractionrequests", one.name, "-n", namespace, "--type=merge", "-p", patch)
    assert [(known.suspended, known.shard, known.round) for known in await board.known(GXR)] == [(True, 0, 1)]


async def test_an_active_project_is_asked_to_reflect_once(
    db: GraphDatabase, board: KubeBoard, plane: ControlPlane, namespace: str
) -> None:
    await db.remember("Alice uses Redis.", "Bob uses Kafka.", "Carol uses Helm.")
    await db.remember("Too little.", project="quiet")
    await db.remember("a b", "c d", "e f", project="old", created_at=datetime.now(UTC) - timedelta(days=2))
    first = await reflections(db, board)
    assert [request["project"] for request in first.result["requests"]] == [PROJECT]
    assert [(entry["project"], entry["reason"]) for entry in first.result["skipped"]] == [("quiet", "TooFewMemories")]
    second = await reflections(db, board)
    assert (second.result["skipped"][0]["reason"], second.counters["scheduled"]) == ("RequestLive", 0)
    provider = open_provider(LlmSettings(ProviderName.LOCAL), StopSignal())
    await generate_reflection(db.pool, provider, ReflectionParams("demo-tenant", PROJECT), slot=slot(), stop=StopSignal())
    finish(plane, namespace, "reflectionrequests")
    assert (await reflections(db, board)).result["skipped"][0]["reason"] == "NothingNew"


async def test_a_missed_run_is_made_up_for_and_a_slot_is_done_once(db: GraphDatabase, board: KubeBoard) -> None:
    three_hours_ago = datetime.now(UTC) - timedelta(hours=3)
    then = Slot("cron:then", three_hours_ago, "cronjob")
    await reflections(db, board, at=then)
    await db.remember(
        "Alice uses Redis.", "Bob uses Kafka.", "Carol uses Helm.", created_at=datetime.now(UTC) - timedelta(hours=2)
    )
    now = Slot("cron:now", datetime.now(UTC), "cronjob")
    assert (await reflections(db, board, at=now)).counters["scheduled"] == 1
    assert (await reflections(db, board, at=now)).reason == "AlreadyDone"


async def test_who_may_not_is_told_so(db: GraphDatabase, plane: ControlPlane, namespace: str) -> None:
    await db.remember("Alice uses Redis.")
    async with KubeBoard.from_env(account(plane, namespace, OPERATOR_TOKEN)) as board:
        with pytest.raises(ConfigError, match="403"):
            await queue(db, board)


async def test_outside_a_cluster_it_says_what_is_missing_and_an_absent_server_is_transient(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RAE_KUBE_API"):
        KubeBoard.from_env({"RAE_SERVICE_ACCOUNT_DIR": str(tmp_path), "KUBERNETES_SERVICE_HOST": "127.0.0.1"})
    async with KubeBoard(httpx.AsyncClient(base_url="http://127.0.0.1:9"), "default") as board:
        with pytest.raises(TransientError, match="Kubernetes"):
            await board.known(GXR)
