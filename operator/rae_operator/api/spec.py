"""What a requester may ask for: the fields of `spec`, common ones first, then those of each kind."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from rae_operator.api.fields import LABEL_PATTERN, SINCE_PATTERN, UUID_PATTERN, ApiModel, Seconds


class RetryPolicy(ApiModel):
    """How failed attempts are repeated: the n-th delay is `initialDelaySeconds * factor^(n-1)`, at most `maxDelaySeconds`."""

    max_attempts: int = Field(
        default=3, ge=1, le=20, description="Attempts that may fail before the request has failed; 1 means no retry."
    )
    initial_delay_seconds: int = Field(
        default=60, ge=0, le=86_400, description="Seconds between the first failure and the second attempt."
    )
    factor: float = Field(default=2, ge=1, le=10, description="By what each further delay grows.")
    max_delay_seconds: int = Field(default=3_600, ge=0, le=86_400, description="Upper bound of a delay, in seconds.")
    jitter: float = Field(
        default=0.1, ge=0, le=1, description="Share of the delay that is added at random, so that requests spread out."
    )


class CommonSpec(ApiModel):
    """The fields that every kind has. Only `suspend`, `cancel` and `priority` may change after creation."""

    tenant_id: str = Field(min_length=1, max_length=255, description="Tenant, by UUID or by its unique name.")
    project: str = Field(min_length=1, max_length=255, description="Project within the tenant.")
    suspend: bool = Field(
        default=False,
        description="Stop: the running Job is deleted, what it committed stays; set to false to go on with a new attempt.",
    )
    cancel: bool = Field(default=False, description="End the request as Failed with reason Cancelled. Cannot be taken back.")
    priority: int = Field(
        default=0, ge=0, le=100, description="Order among requests that wait for a free place; the highest goes first."
    )
    retry: RetryPolicy = Field(default=RetryPolicy(), description="How failed attempts are repeated.")
    deadline_seconds: Seconds = Field(
        default=86_400,
        description="Total time of all attempts and of the delays between them; it starts anew when a suspended request resumes.",
    )
    pre_running_deadline_seconds: Seconds | None = Field(
        default=None, description="How long a pod may take to start running; the operator's own setting when absent."
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="Seconds after which the finished request is deleted; the operator's own setting when absent.",
    )
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="Requests with the same key are one piece of work: a finished one is not run again. The uid when absent.",
    )
    queue_name: Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)] | None = Field(
        default=None, description="Kueue's local queue: the Job is born suspended, and Kueue alone starts it."
    )


class GraphExtractionSpec(CommonSpec):
    """Extract graph triples from memories of one project."""

    memory_ids: (
        Annotated[list[Annotated[str, Field(pattern=UUID_PATTERN, max_length=36)]], Field(min_length=1, max_length=1_000)] | None
    ) = Field(default=None, description="The memories, by UUID; those that are pending when absent.")
    limit: Annotated[int, Field(ge=1, le=1_000)] | None = Field(
        default=None, description="How many pending memories, 50 when absent. Excludes memoryIds."
    )
    pending: bool | None = Field(
        default=None,
        description="Take what waits in the queue (graph_extracted is false), beside other requests. Excludes memoryIds.",
    )
    shard: Annotated[int, Field(ge=0, le=999)] | None = Field(
        default=None, description="With pending: which share of the queue, from 0."
    )
    shards: Annotated[int, Field(ge=1, le=1_000)] | None = Field(
        default=None, description="With pending: how many shares there are, 1 when absent."
    )
    min_confidence: float = Field(default=0.7, ge=0, le=1, description="Triples with less confidence are left out.")
    auto_store: bool = Field(default=True, description="Store the triples in the graph; false only counts them.")
    model: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="Language model; the installation's own when absent."
    )


class ReflectionKind(StrEnum):
    """What kind of reflection is asked for."""

    INSIGHT = "insight"
    ANALYSIS = "analysis"
    PATTERN = "pattern"
    META = "meta"
    SYNTHESIS = "synthesis"


class ReflectionSpec(CommonSpec):
    """Reflect on the recent memories of one project."""

    since: Annotated[str, Field(pattern=SINCE_PATTERN, max_length=8)] | None = Field(
        default=None, description="How far back, in hours or days, e.g. 24h or 7d; the installation's own when absent."
    )
    max_memories: int = Field(default=50, ge=1, le=1_000, description="Upper bound of the memories that are read.")
    min_cluster_size: int = Field(default=3, ge=1, le=50, description="Memories that a theme needs.")
    kind: ReflectionKind | None = Field(default=None, description="The kind of reflection; the task's own choice when absent.")
    model: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="Language model; the installation's own when absent."
    )
