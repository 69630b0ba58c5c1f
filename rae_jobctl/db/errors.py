"""What an error of PostgreSQL means for a task: try again, mend the configuration, or neither.

No message here holds a password, and none repeats the server's text where that may quote a row.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg import exceptions as pg

from rae_jobctl.errors import ConfigError, TaskError, TransientError

_REFUSED = (pg.InvalidPasswordError, pg.InvalidAuthorizationSpecificationError)
_UNREACHABLE = (pg.CannotConnectNowError, pg.TooManyConnectionsError, pg.PostgresConnectionError, TimeoutError, OSError)
#: Failures of a statement that the same statement may well survive later.
_PASSING = (
    pg.DeadlockDetectedError,
    pg.SerializationError,
    pg.LockNotAvailableError,
    pg.QueryCanceledError,
    pg.OperatorInterventionError,
    pg.InsufficientResourcesError,
    pg.PostgresConnectionError,
)
#: asyncpg's own error is what comes when the server's farewell meets a statement that is being sent.
_LOST = (pg.AdminShutdownError, pg.CrashShutdownError, pg.PostgresConnectionError, pg.InternalClientError, ConnectionError)
_POOLER = (pg.InvalidSQLStatementNameError, pg.DuplicatePreparedStatementError)


@contextmanager
def connecting(where: str) -> Iterator[None]:
    """Map what a failed connection raises.

    Args:
        where: host:port/database, as `DatabaseSettings.where` gives it.

    Raises:
        TransientError: refused, unreachable, no such host, starting up, no free connection.
        ConfigError: wrong password, unknown role or database, TLS that does not fit, options that mean nothing.
    """
    try:
        yield
    except TaskError:
        raise
    except (pg.ClientConfigurationError, ValueError) as error:
        raise ConfigError(
            f"the database URL for {where} is not understood ({type(error).__name__})",
            hint="use postgresql://user:password@host:5432/database; special characters of the password are percent-encoded",
        ) from None
    except Exception as error:
        mapped = _connection_error(error, where)
        if mapped is None:
            raise
        raise mapped from None


def _connection_error(error: Exception, where: str) -> TaskError | None:
    if isinstance(error, _REFUSED):
        return ConfigError(
            f"PostgreSQL at {where} refuses the user or its password",
            reason="DatabaseLogin",
            hint="check user and password in DATABASE_URL (or POSTGRES_USER, POSTGRES_PASSWORD), and the server's pg_hba.conf",
        )
    if isinstance(error, pg.InvalidCatalogNameError):
        return ConfigError(
            f"PostgreSQL at {where} has no such database",
            reason="DatabaseMissing",
            hint="check the last part of DATABASE_URL (or POSTGRES_DB)",
        )
    if isinstance(error, ssl.SSLError):
        return ConfigError(f"TLS with PostgreSQL at {where} failed", reason="DatabaseTls", hint="check sslmode in DATABASE_URL")
    if isinstance(error, _UNREACHABLE):
        return TransientError(
            f"cannot reach PostgreSQL at {where}: {_why(error)}",
            reason="DatabaseUnreachable",
            hint="is the server up, and do host and port in DATABASE_URL fit?",
        )
    return None


def _why(error: Exception) -> str:
    causes: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        (pg.CannotConnectNowError, "it is starting up or shutting down"),
        (pg.TooManyConnectionsError, "it has no free connection"),
        (ConnectionRefusedError, "connection refused"),
        (TimeoutError, "no answer in time"),
        (FileNotFoundError, "no such socket"),
    )
    for kinds, text in causes:
        if isinstance(error, kinds):
            return text
    return _system_cause(error)


def _system_cause(error: Exception) -> str:
    text = str(error)
    if "Name or service not known" in text or "name resolution" in text or "nodename nor servname" in text:
        return "the host name is unknown"
    # asyncpg wraps the refusals of several addresses (IPv4 and IPv6) in one OSError.
    if "Connect call failed" in text or "refused" in text:
        return "connection refused"
    return type(error).__name__


def where_of(connection: object) -> str:
    """host:port of a connection's server, fit for a message."""
    address = getattr(connection, "_addr", None)
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "the local socket"


@contextmanager
def working(where: str) -> Iterator[None]:
    """Map what a statement raises once connected; what is unknown goes on as it is.

    Raises:
        TransientError: lost connection, deadlock, lock timeout, shutdown, full disk.
        ConfigError: a missing right, or a transaction pooler between us and the server.
    """
    try:
        yield
    except pg.InsufficientPrivilegeError as error:
        # The primary message names the object and the kind of right, never a row.
        raise ConfigError(
            f"PostgreSQL at {where}: {error.args[0]}",
            reason="MissingGrant",
            hint="run `rae-jobctl db migrate` as the tables' owner with RAE_JOB_ROLE set to the role of DATABASE_URL",
        ) from None
    except _POOLER:
        raise transaction_pooler() from None
    except (pg.PostgresError, pg.InternalClientError, pg.InterfaceError, ConnectionError) as error:
        mapped = _statement_error(error, where)
        if mapped is None:
            raise
        raise mapped from error


def _statement_error(error: Exception, where: str) -> TaskError | None:
    if isinstance(error, _LOST):
        return TransientError(f"lost the connection to PostgreSQL at {where}", reason="DatabaseConnectionLost")
    # A session that the server has ended is closed, or, when the pool noticed it first, released under our hands.
    if isinstance(error, pg.InterfaceError) and ("closed" in str(error) or "released" in str(error)):
        return TransientError(f"lost the connection to PostgreSQL at {where}", reason="DatabaseConnectionLost")
    if isinstance(error, _PASSING):
        return TransientError(f"PostgreSQL at {where}: {type(error).__name__}", reason="DatabaseBusy")
    return None


def transaction_pooler() -> ConfigError:
    """The error of a task behind a pooler that hands out another server connection per transaction."""
    return ConfigError(
        "the database connection changes its server session: a transaction pooler (PgBouncer) is in between, "
        "and the lock that makes a run exactly-once cannot be held through it",
        reason="TransactionPooler",
        hint="set RAE_DATABASE_DIRECT_URL to the server itself, or to a pool in session mode",
    )
