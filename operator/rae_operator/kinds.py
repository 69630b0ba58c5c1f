"""The table of kinds. A new kind of request is a spec model, a row here, and `make manifests`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rae_operator.api.spec import CommonSpec, GraphExtractionSpec, ReflectionSpec


@dataclass(frozen=True)
class Exclusion:
    """Two fields of which at most one may be given."""

    first: str
    second: str


@dataclass(frozen=True)
class Kind:
    """One kind of request and the task that serves it.

    Attributes:
        name, plural, singular, short: as in the CRD.
        task: subcommand of `rae-jobctl`.
        spec: model of `spec`.
        task_fields: the fields of `spec` that the pod is given, by their names in the resource.
        exclusions: pairs of fields that exclude each other.
        defaults: fields that the pod is given when the request is silent and no excluding field speaks.
    """

    name: str
    plural: str
    singular: str
    short: str
    task: str
    spec: type[CommonSpec]
    task_fields: tuple[str, ...]
    exclusions: tuple[Exclusion, ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()


KINDS: tuple[Kind, ...] = (
    Kind(
        name="GraphExtractionRequest",
        plural="graphextractionrequests",
        singular="graphextractionrequest",
        short="gxr",
        task="extract-graph",
        spec=GraphExtractionSpec,
        task_fields=(
            *("tenantId", "project", "memoryIds", "limit", "pending", "shard", "shards"),
            *("minConfidence", "autoStore", "model"),
        ),
        exclusions=(Exclusion("memoryIds", "limit"), Exclusion("memoryIds", "pending")),
        defaults=(("limit", 50),),
    ),
    Kind(
        name="ReflectionRequest",
        plural="reflectionrequests",
        singular="reflectionrequest",
        short="rfr",
        task="generate-reflection",
        spec=ReflectionSpec,
        task_fields=("tenantId", "project", "since", "maxMemories", "minClusterSize", "kind", "model"),
    ),
)

BY_PLURAL = {kind.plural: kind for kind in KINDS}
BY_NAME = {kind.name: kind for kind in KINDS}
