"""What is measured: the local provider as `extract-graph` runs it, and the plainest extractor that could do the job."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from uuid import UUID

from rae_jobctl.llm.local_provider import LocalProvider
from rae_jobctl.llm.types import Memory
from rae_jobctl.tasks.extraction.gate import has_content
from rae_jobctl.tasks.extraction.params import ExtractionParams
from tests.quality.scoring import Fact

_NAME = r"[A-Z][\w/-]*(?:\.\w+)*(?: (?:[A-Z][\w/-]*|\d\w*)(?:\.\w+)*)*"
_NO_NAMES = (
    "The|This|That|These|Those|A|An|We|I|You|He|She|It|They|If|When|After|Since|Although|Our|My|Could|Please|Perhaps|Maybe"
    "|Which|What|How|Does|Instead"
)
#: `Name verb Name`: one to four lower-case words between two capitalised names.
_PATTERN = re.compile(
    rf"\b(?!(?:{_NO_NAMES})\b)(?P<subject>{_NAME}) (?P<verb>[a-z][a-z-]+(?: [a-z][a-z-]*){{0,3}}) (?P<object>{_NAME})"
)
#: What cannot begin a verb, and so says that there is none.
_NO_VERBS = frozenset(
    {"and", "or", "but", "of", "in", "on", "at", "by", "to", "for", "from", "with", "about", "as", "not", "can"}
)
_ARTICLES = frozenset({"a", "an", "the", "its", "his", "her", "their", "our", "my"})
_AUXILIARIES = frozenset({"is", "are", "was", "were", "be", "been", "has", "have", "had", "now", "also", "then"})
#: The irregular verbs that endings do not show.
_IRREGULAR = {"wrote": "write", "built": "build", "bought": "buy", "met": "meet", "ran": "run", "lost": "lose", "took": "take"}


def local(texts: Sequence[str]) -> list[list[Fact]]:
    """The local provider's triples at the task's own threshold, behind the task's own gate."""
    memories = [Memory(UUID(int=number), text) for number, text in enumerate(texts)]
    found = asyncio.run(LocalProvider().extract([memory for memory in memories if has_content(memory.content)]))
    least = ExtractionParams("", "").min_confidence
    facts: list[list[Fact]] = [[] for _ in texts]
    for triple in found.triples:
        if triple.confidence >= least:
            facts[triple.memory_id.int].append((triple.subject, triple.predicate, triple.object))
    return facts


def pattern(texts: Sequence[str]) -> list[list[Fact]]:
    """A regular expression: two capitalised names with a verb between them."""
    return [_pattern(text) for text in texts]


def _pattern(text: str) -> list[Fact]:
    found: list[Fact] = []
    at = 0
    while match := _PATTERN.search(text, at):
        words = [word for word in match["verb"].split() if word not in _ARTICLES]
        verb = [word for word in words if word not in _AUXILIARIES] or ["is"]
        if verb[0] not in _NO_VERBS:
            found.append((match["subject"], "_".join(_IRREGULAR.get(word, word) for word in verb), match["object"]))
        # The object of one fact may be the subject of the next.
        at = match.start("object")
    return found
