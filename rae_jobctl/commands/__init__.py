"""The subcommands, one thin module each: arguments in, one call, result out.

To add a task: write it in `rae_jobctl/tasks/`, its command here with a Typer `app`, and its row in CATALOG.
"""

from __future__ import annotations

from dataclasses import dataclass

_GRAPH = "Graph and reflection"
_LIFE_CYCLE = "Life cycle of memories"
_OPERATE = "Operate"


@dataclass(frozen=True)
class CommandEntry:
    """A row of the catalogue: `module` is imported from this package when `name` runs."""

    name: str
    module: str
    help: str
    section: str
    deprecated: bool = False


CATALOG: tuple[CommandEntry, ...] = (
    CommandEntry("extract-graph", "extract_graph", "Extract graph triples from memories, each with its evidence.", _GRAPH),
    CommandEntry("process-graph-queue", "process_graph_queue", "Ask for the extraction of what waits in the queue.", _GRAPH),
    CommandEntry("generate-reflection", "generate_reflection", "Reflect on a project's recent memories.", _GRAPH),
    CommandEntry("schedule-reflections", "schedule_reflections", "Ask for reflections where there was activity.", _GRAPH),
    CommandEntry("decay", "decay", "Decay the strength of memories, once for each day.", _LIFE_CYCLE),
    CommandEntry("cleanup-expired-data", "cleanup_expired_data", "Delete what is older than its class may be kept.", _LIFE_CYCLE),
    CommandEntry("run-maintenance", "run_maintenance", "Run decay, retention and the consistency check in one.", _LIFE_CYCLE),
    CommandEntry("erase-user", "erase_user", "Erase all of one person's data of one tenant (GDPR, Article 17).", _LIFE_CYCLE),
    CommandEntry("prune", "prune", "Deprecated: delete episodic memories older than MEMORY_RETENTION_DAYS.", _LIFE_CYCLE, True),
    CommandEntry(
        "check-consistency", "check_consistency", "Compare memories with Qdrant's vectors, and mend what differs.", _LIFE_CYCLE
    ),
    CommandEntry("pause", "pause", "Make no new requests of the queue or for reflections; list what is paused.", _OPERATE),
    CommandEntry("resume", "resume", "Take a pause back.", _OPERATE),
    CommandEntry("doctor", "doctor", "Look for what is amiss with the installation.", _OPERATE),
    CommandEntry("backfill", "backfill", "Make good on purpose what was missed.", _OPERATE),
    CommandEntry("db", "db", "Migrate the database and show its state.", _OPERATE),
    CommandEntry("runs", "runs", "Show what has run; watch it, stop it, run it again.", _OPERATE),
    CommandEntry("serve-ml", "serve_ml", "Serve RAE's ML service API over HTTP.", _OPERATE),
    CommandEntry("budget", "budget", "Show what the language model may cost, and what it has.", _OPERATE),
    CommandEntry("dev", "dev", "Start PostgreSQL and Redis at a laptop, load the examples.", _OPERATE),
)
