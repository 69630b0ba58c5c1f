"""One task over many tenants: each by itself, none stopped by another's failure, and no failure hidden."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from rae_jobctl.db.schema import require_schema
from rae_jobctl.db.tenants import Tenant, list_known_tenants, list_tenants, resolve_tenant
from rae_jobctl.deadline import StopSignal
from rae_jobctl.errors import ExitCode, SoftLimitReached, TaskError, TimeSliced
from rae_jobctl.logs import as_task_error, get_logger
from rae_jobctl.outcome import Outcome

if TYPE_CHECKING:
    from rae_jobctl.db.pool import Pool

Work = Callable[[Tenant], Awaitable[Outcome]]
#: A finished run is told by tenant; a status has no room for ten thousand of them.
MAX_LISTED = 1000


async def chosen_tenants(pool: Pool, wanted: str | None) -> list[Tenant]:
    """The tenant that a person named, or all that have memories.

    Raises:
        BadDataError: no such tenant.
        SchemaBehind, ConfigError: the database does not fit this image.
    """
    async with pool.acquire() as connection:
        await require_schema(connection)
        return [await resolve_tenant(connection, wanted)] if wanted else await list_tenants(connection)


async def known_tenants(pool: Pool, wanted: str | None) -> list[Tenant]:
    """The tenant that a person named, or all that anything is kept for, with or without memories.

    Raises:
        As `chosen_tenants`.
    """
    async with pool.acquire() as connection:
        await require_schema(connection)
        return [await resolve_tenant(connection, wanted)] if wanted else await list_known_tenants(connection)


async def for_each_tenant(task: str, tenants: Sequence[Tenant], work: Work, stop: StopSignal) -> Outcome:
    """Do `work` for every tenant and add up what it says.

    Args:
        task: subcommand name.
        tenants: in the order in which they are worked.
        work: returns the outcome of one tenant, or raises TaskError.
        stop: asked between tenants.

    Returns:
        Counters added up; `result["tenants"]` by tenant; exit code 0, 75 when any failure is transient, else 65.

    Raises:
        TimeSliced: the soft limit came, and something was done before.
        SoftLimitReached: it came before anything was done.
        TaskError: the failure itself, when there is one tenant only.
    """
    done: list[tuple[Tenant, Outcome]] = []
    failures: list[tuple[Tenant, TaskError]] = []
    for tenant in tenants:
        if stop.should_stop:
            raise _stopped(stop, _progressed(done))
        try:
            done.append((tenant, await work(tenant)))
        except SoftLimitReached as error:
            raise _stopped(stop, _progressed(done)) from error
        except TimeSliced:
            raise
        except Exception as raised:
            if len(tenants) == 1:
                raise
            failure = as_task_error(raised)
            get_logger().error("tenant_failed", task=task, tenant_id=str(tenant.id), reason=failure.reason, error=failure.message)
            failures.append((tenant, failure))
    return _together(task, done, failures)


def _progressed(done: Sequence[tuple[Tenant, Outcome]]) -> bool:
    # A tenant that an earlier attempt finished is no progress of this one: an attempt that does nothing new must count, or a
    # run that cannot go on would be tried for ever.
    return any(outcome.reason != "AlreadyDone" for _, outcome in done)


def _stopped(stop: StopSignal, progressed: bool) -> TaskError:
    if progressed:
        return TimeSliced(f"stopped by {stop.cause} between tenants; the next attempt goes on from here")
    return SoftLimitReached(f"stopped by {stop.cause} before anything was committed")


def _together(task: str, done: Sequence[tuple[Tenant, Outcome]], failures: Sequence[tuple[Tenant, TaskError]]) -> Outcome:
    counters: dict[str, int] = {"tenants": len(done), "tenantsFailed": len(failures)}
    for _, outcome in done:
        for name, value in outcome.counters.items():
            counters[name] = counters.get(name, 0) + value
    code = _exit_code([error for _, error in failures])
    return Outcome(
        task=task,
        reason="TenantsFailed" if failures else _reason([outcome for _, outcome in done]),
        message=_message(done, failures),
        counters=counters,
        result={"tenants": [_entry(tenant, outcome) for tenant, outcome in done[:MAX_LISTED]]},
        failures=tuple(_failure(tenant, error) for tenant, error in failures[:MAX_LISTED]),
        run_ids=tuple(run for _, outcome in done for run in outcome.run_ids),
        exit_code=code,
        dry_run=any(outcome.dry_run for _, outcome in done),
    )


def _exit_code(errors: Sequence[TaskError]) -> ExitCode:
    if not errors:
        return ExitCode.DONE
    return ExitCode.BAD_DATA if all(error.exit_code.permanent for error in errors) else ExitCode.TRANSIENT


def _reason(outcomes: Sequence[Outcome]) -> str:
    reasons = {outcome.reason for outcome in outcomes}
    if not reasons:
        return "NothingToDo"
    return reasons.pop() if len(reasons) == 1 else "Done"


def _message(done: Sequence[tuple[Tenant, Outcome]], failures: Sequence[tuple[Tenant, TaskError]]) -> str:
    if failures:
        tenant, error = failures[0]
        return f"{len(failures)} of {len(done) + len(failures)} tenants failed; the first, {tenant.name}: {error.message}"
    if len(done) == 1:
        return done[0][1].message
    return f"{len(done)} tenants" if done else "no tenant has a memory"


def _entry(tenant: Tenant, outcome: Outcome) -> dict[str, Any]:
    about = {"tenant": tenant.name, "tenantId": str(tenant.id), "reason": outcome.reason, "message": outcome.message}
    return {**about, "counters": dict(outcome.counters), **outcome.result}


def _failure(tenant: Tenant, error: TaskError) -> dict[str, Any]:
    about = {"tenant": tenant.name, "tenantId": str(tenant.id), "reason": error.reason, "message": error.message}
    return {**about, "transient": not error.exit_code.permanent}
