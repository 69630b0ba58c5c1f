"""What goes into a provider and what comes out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from rae_jobctl.errors import TaskError

if TYPE_CHECKING:
    from rae_jobctl.llm.meter import Meter


class EntityType(StrEnum):
    """Types of entities in the graph; OTHER where none fits."""

    PERSON = "PERSON"
    ORGANIZATION = "ORGANIZATION"
    LOCATION = "LOCATION"
    TECHNOLOGY = "TECHNOLOGY"
    PRODUCT = "PRODUCT"
    PROJECT = "PROJECT"
    EVENT = "EVENT"
    DATE = "DATE"
    DOCUMENT = "DOCUMENT"
    QUANTITY = "QUANTITY"
    CONCEPT = "CONCEPT"
    OTHER = "OTHER"


class ReflectionKind(StrEnum):
    """What a reflection looks for; the value is RAE's `reflections.type`."""

    INSIGHT = "insight"
    ANALYSIS = "analysis"
    PATTERN = "pattern"
    META = "meta"
    SYNTHESIS = "synthesis"


@dataclass(frozen=True)
class Memory:
    """A memory's id and text."""

    id: UUID
    content: str


@dataclass(frozen=True)
class Triple:
    """A fact with the place that it was read from.

    Attributes:
        memory_id: the memory that says so.
        subject, object: entity names, normalised as RAE does (lower case, single spaces).
        predicate: relation, normalised as RAE does (UPPER_SNAKE).
        confidence: 0 to 1.
        evidence: a verbatim part of the memory, at most MAX_EVIDENCE characters.
    """

    memory_id: UUID
    subject: str
    subject_type: EntityType
    predicate: str
    object: str
    object_type: EntityType
    confidence: float
    evidence: str


@dataclass(frozen=True)
class Usage:
    """What calls have used.

    Attributes:
        calls: answered requests, good or bad.
        prompt_tokens, cached_tokens, completion_tokens: as the endpoint counts them; cached ones are part of the prompt's.
    """

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True)
class Extraction:
    """The triples of a batch.

    Attributes:
        triples: checked ones.
        failed: memories that the provider could not answer for, with a CamelCase reason; the others are done.
        rejected: triples that did not pass a check, by reason.
        usage: of all calls of this batch.
        unasked: memories that no call was made for any more, because of `stopped`; the others are paid for and stand.
        stopped: why the calls ended early.
    """

    triples: tuple[Triple, ...] = ()
    failed: Mapping[UUID, str] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = Usage()
    unasked: frozenset[UUID] = frozenset()
    stopped: TaskError | None = None

    def __add__(self, other: Extraction) -> Extraction:
        return Extraction(
            self.triples + other.triples,
            {**self.failed, **other.failed},
            dict(Counter(self.rejected) + Counter(other.rejected)),
            self.usage + other.usage,
            self.unasked | other.unasked,
            self.stopped or other.stopped,
        )


@dataclass(frozen=True)
class Theme:
    """Memories that speak of one thing.

    Attributes:
        terms: what sets it apart, the strongest first.
        memories: the most central first.
    """

    terms: tuple[str, ...]
    memories: tuple[Memory, ...]


@dataclass(frozen=True)
class Insight:
    """One statement with the memories that it rests on, all of them from the input."""

    text: str
    evidence: tuple[UUID, ...]
    confidence: float = 0.5
    single_source: bool = False


@dataclass(frozen=True)
class Scores:
    """Judgements from 0 to 1, named as RAE's columns."""

    novelty: float = 0.5
    importance: float = 0.5
    utility: float = 0.5
    confidence: float = 0.5

    @property
    def composite(self) -> float:
        """RAE's weighting: importance 0.4, utility 0.3, novelty 0.2, confidence 0.1."""
        return 0.4 * self.importance + 0.3 * self.utility + 0.2 * self.novelty + 0.1 * self.confidence


@dataclass(frozen=True)
class ReflectionDraft:
    """A reflection before it is stored."""

    summary: str
    insights: tuple[Insight, ...]
    actions: tuple[str, ...]
    scores: Scores = Scores()
    rejected: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = Usage()


@dataclass(frozen=True)
class Estimate:
    """What work would cost at most, without a call.

    Attributes:
        calls: requests without retries.
        prompt_tokens, completion_tokens: estimated by length.
        cost_usd: None when the model's price is not known.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


class Provider(Protocol):
    """What the tasks need of a language model.

    Every call raises TransientError when the service is away for now and ConfigError when it refuses us for good; what
    concerns a single memory is in the answer instead.
    """

    @property
    def name(self) -> str:
        """openai, local or ml-service."""

    @property
    def model(self) -> str:
        """The model's name, part of what makes an answer the same answer."""

    @property
    def paid(self) -> bool:
        """Whether a call may cost money."""

    @property
    def batch_size(self) -> int:
        """How many memories one call to `extract` takes at best."""

    @property
    def concurrency(self) -> int:
        """How many calls may be under way at once."""

    def metered(self, meter: Meter) -> Provider:
        """The same provider with each paid call passing `meter`; itself where no call is paid."""

    async def extract(self, memories: Sequence[Memory]) -> Extraction:
        """Triples of memories of one tenant and project."""

    async def reflect(self, themes: Sequence[Theme], kind: ReflectionKind) -> ReflectionDraft:
        """One reflection upon the themes of one tenant and project."""

    def estimate_extraction(self, memories: Sequence[Memory]) -> Estimate:
        """Cost of `extract`, without a call."""

    def estimate_reflection(self, themes: Sequence[Theme]) -> Estimate:
        """Cost of `reflect`, without a call."""

    async def aclose(self) -> None:
        """Close connections."""
