"""What is done with a row that names the person, table by table. A table that is not here is looked through and reported.

Columns are not listed where everything is searched: what an installation's table has of text, arrays and JSON is looked up in the
catalogue, so that a column which one release of RAE has and another has not makes no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What happens to a row that names the person.

    - DELETE: it goes.
    - MEMORY, ARCHIVED, REFLECTION, NODE, EDGE: it goes, or what rests on erased memories is taken out of it; what depends on it
      follows.
    - ANONYMISE: it stays, for others rely on the log, without the person.
    - SCRUB: it stays, with the identifiers replaced and what quotes erased memories taken out, unless it is about such a memory.
    - REPORT: a person must decide; nothing is changed.
    """

    DELETE = "delete"
    MEMORY = "memory"
    ARCHIVED = "archived"
    REFLECTION = "reflection"
    NODE = "node"
    EDGE = "edge"
    ANONYMISE = "anonymise"
    SCRUB = "scrub"
    REPORT = "report"


@dataclass(frozen=True)
class Rule:
    """One table.

    Attributes:
        table: its name, in RAE's schema or in rae_jobs.
        action: see Action.
        data_class: for the audit.
        skip: columns that hold words of a fixed list, never a person.
        linked: a row may rest on an erased memory or reflection, by id, without naming the person.
        person: ANONYMISE: columns that say whom the row is about; one that names the person becomes "erased".
        private: ANONYMISE: columns that are emptied when one of `person` names the person.
        unique: SCRUB: columns of a unique key; the row's id makes a replaced value unique again.
        covered: of rae_jobs: the columns that are searched; the others of text are in `skip`.
    """

    table: str
    action: Action
    data_class: str
    skip: tuple[str, ...] = ()
    linked: bool = False
    person: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    covered: tuple[str, ...] = ()


#: Columns that say whom a row is about; one of type uuid is looked at for its name alone.
PERSON = ("user_id", "actor_id", "created_by", "deleted_by", "agent_id", "session_id")
_PRIVATE = ("ip_address", "user_agent", "query", "metadata", "details")


def _log(table: str, skip: tuple[str, ...] = ()) -> Rule:
    return Rule(table, Action.ANONYMISE, "logs", skip=skip, person=PERSON, private=_PRIVATE)


RAE_RULES: tuple[Rule, ...] = (
    Rule("memories", Action.MEMORY, "memories", skip=("layer", "memory_type", "info_class", "content_hash"), linked=True),
    Rule("memory_feedback", Action.DELETE, "feedback", linked=True),
    Rule("embeddings", Action.DELETE, "embeddings", linked=True),
    Rule("reflections", Action.REFLECTION, "reflections", skip=("type", "generation_model", "cache_key"), linked=True),
    Rule("reflection_relationships", Action.DELETE, "reflections", skip=("relation_type",)),
    Rule("knowledge_graph_nodes", Action.NODE, "graph"),
    Rule("knowledge_graph_edges", Action.EDGE, "graph", linked=True),
    Rule("semantic_nodes", Action.DELETE, "graph", linked=True),
    Rule("graph_triples", Action.DELETE, "graph", linked=True),
    Rule("idea_field_edges", Action.DELETE, "graph"),
    Rule("user_tenant_roles", Action.DELETE, "access", skip=("role",)),
    _log("reflection_usage_log", skip=("usage_type",)),
    _log("reflection_audits", skip=("final_decision",)),
    _log("cost_logs", skip=("model", "provider", "operation")),
    _log("access_logs", skip=("action",)),
    _log("audit_logs"),
    _log("audit_trail_log"),
    _log("deletion_audit_log"),
    _log("token_savings_log", skip=("model", "savings_type")),
    Rule("metrics_timeseries", Action.SCRUB, "metrics", skip=("metric_name", "metric_type", "aggregation_period")),
    Rule("memory_embeddings", Action.SCRUB, "embeddings", skip=("model_name",), linked=True),
    Rule("budgets", Action.REPORT, "budgets"),
    Rule("tenants", Action.REPORT, "tenants", skip=("tier", "status")),
)

#: What this project keeps. A column of text here must be in `covered` or in `skip`: a test goes through the catalogue.
JOBS_RULES: tuple[Rule, ...] = (
    Rule("archived_memories", Action.ARCHIVED, "memories", linked=True, covered=("memory",)),
    Rule(
        "task_runs",
        Action.SCRUB,
        "runs",
        skip=("task", "state", "reason", "error_class", "request_kind", "request_uid", "version", "cursor", "counters"),
        linked=True,
        unique=("project", "slot"),
        covered=(
            *("project", "slot", "arguments", "message", "result", "traceback", "command"),
            *("request", "request_name", "pod", "job"),
        ),
    ),
    Rule("extraction_state", Action.SCRUB, "extraction", linked=True, covered=("project", "last_error")),
    Rule("pauses", Action.SCRUB, "runs", skip=("what",), unique=("project",), covered=("project", "reason")),
    Rule("llm_usage", Action.SCRUB, "usage", skip=("task", "provider", "model", "state", "error_class"), covered=("project",)),
    Rule("llm_budget_periods", Action.DELETE, "usage", skip=("period",), covered=("project",)),
    Rule("reflection_claims", Action.SCRUB, "reflections", skip=("input_hash",), covered=("project",)),
    Rule(
        "webhook_outbox",
        Action.DELETE,
        "notifications",
        skip=("event_type", "last_error"),
        linked=True,
        covered=("project", "payload"),
    ),
    Rule(
        "deletion_audit",
        Action.SCRUB,
        "audit",
        skip=("data_class", "reason", "table_name", "subject_hash"),
        covered=("deleted_keys",),
    ),
)

#: In the order of the work: what others rest on comes first, and what an erased memory was may be in the archive alone.
ORDER = ("archived_memories", *(rule.table for rule in (*RAE_RULES, *JOBS_RULES)))

JOBS_SCHEMA = "rae_jobs"
#: Tables of rae_jobs that belong to no tenant and hold nothing about anybody.
JOBS_WITHOUT_TENANT = ("schema_migrations", "llm_rates")
