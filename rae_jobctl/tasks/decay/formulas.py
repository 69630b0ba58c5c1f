"""The two formulas as SQL. Every statement names its tenant, and a row that has had its day does not match a second time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rae_jobctl.tasks.decay.params import DecayParams
from rae_jobctl.tasks.walk import Due

#: Strengths below are 0: a value that small means nothing, and PostgreSQL refuses arithmetic that underflows.
FORGOTTEN = 1e-12
#: Importance comes no lower, and what is there stays.
LEAST_IMPORTANCE = 0.01


@dataclass(frozen=True)
class Formula:
    """One kind of decay at one rate; $1 is the tenant and $2 the day in every statement.

    Attributes:
        task: name of its runs in the ledger.
        column, watermark: what fades, and the day up to which it has.
        due: the rows that have not had the day yet.
        after: SQL of the new value; its parameters are `arguments`.
        also: further assignments.
        arguments: of `after`, from $3 on.
        rate, max_days: as in DecayParams, the tenant's own rate.
    """

    task: str
    column: str
    watermark: str
    due: Due
    after: str
    arguments: tuple[object, ...]
    rate: float
    max_days: int
    also: str = ""

    @property
    def update(self) -> str:
        """Change the rows at certain places; the last parameter. One that has moved meanwhile comes with the next look."""
        places = f"${len(self.arguments) + 3}"
        return (
            f"UPDATE memories AS m SET {self.column} = {self.after}, {self.watermark} = $2{self.also} "  # noqa: S608
            f"WHERE {self.due.where} AND m.ctid = ANY({places}::tid[])"
        )

    @property
    def lost(self) -> str:
        """Rows among certain places ($4) further behind than is made good ($3), and by how many days at most."""
        return (
            f"SELECT count(*) AS memories, coalesce(max($2 - m.{self.watermark} - $3), 0) AS days FROM memories AS m "  # noqa: S608
            f"WHERE {self.due.where} AND m.{self.watermark} < $2 - $3::integer AND m.ctid = ANY($4::tid[])"
        )

    @property
    def preview(self) -> str:
        """Before and after by tenth; 11 is 1.0 and more. How far behind, and what is further behind than is made good."""
        return f"""
            WITH due AS (
                SELECT m.{self.column} AS before, $2 - m.{self.watermark} AS days, {self.after} AS after
                FROM memories AS m
                WHERE {self.due.where}
            )
            SELECT width_bucket(before, 0, 1, 10) AS before, width_bucket(after, 0, 1, 10) AS after,
                   count(*) AS memories, max(days) AS days, count(*) FILTER (WHERE days > {self.max_days}) AS lost
            FROM due
            GROUP BY 1, 2
        """  # noqa: S608


def formula_of(params: DecayParams, rate: float) -> Formula:
    """The formula that the parameters ask for, at a tenant's rate."""
    return _importance(params, rate) if params.importance else _strength(params, rate)


# The powers are computed here: PostgreSQL's power() raises an error where the result underflows. $3 factors by missed days,
# $4 the strength under which 0 comes out.
_MISSED = "least($2 - m.decayed_through, cardinality($3::float8[]))"
_STRENGTH = f"CASE WHEN abs(m.strength) < ($4::float8[])[{_MISSED}] THEN 0 ELSE m.strength * ($3::float8[])[{_MISSED}] END"


def _strength(params: DecayParams, rate: float) -> Formula:
    factors = [rate**days for days in range(1, params.max_days + 1)]
    floors = [FORGOTTEN / factor if factor > FORGOTTEN else math.inf for factor in factors]
    return Formula(
        task="decay",
        column="strength",
        watermark="decayed_through",
        due=Due("m.decayed_through < $2", (params.day,)),
        after=_STRENGTH,
        arguments=(factors, floors),
        rate=rate,
        max_days=params.max_days,
        # Importance that stays where it is has had its day as well. The row is written anyway, so this costs nothing; else the
        # importance that RAE gives it next year would fade at once for the days before.
        also=f", importance_decayed_through = CASE WHEN m.importance > {LEAST_IMPORTANCE} "
        "THEN m.importance_decayed_through ELSE greatest(m.importance_decayed_through, $2) END",
    )


# $3 rate, $4 the moment of this slot, $5 most days. The share that goes on a day depends on the days since the last access as
# they were at that day: a day that is made good counts as it would have counted. The product over several days is a sum of
# logarithms, kept above where exp() underflows. A date at infinity is none: before version 17 PostgreSQL cannot subtract it.
_DATED = ", ".join(f"CASE WHEN isfinite(m.{column}) THEN m.{column} END" for column in ("last_accessed_at", "created_at"))
_IDLE = f"extract(epoch FROM $4::timestamptz - coalesce({_DATED}, $4::timestamptz))::float8 / 86400"
_SHARE = "CASE WHEN {idle} > 30 THEN $3::float8 * (1 + ({idle}) / 30) WHEN {idle} < 7 THEN $3::float8 / 2 ELSE $3::float8 END"
_TODAY = _SHARE.format(idle=f"({_IDLE})")
_THAT_DAY = _SHARE.format(idle=f"({_IDLE} - n)")
_IMPORTANCE = f"""greatest({LEAST_IMPORTANCE}, CASE
    WHEN $2 - m.importance_decayed_through = 1 THEN m.importance * (1 - least(1, {_TODAY}))
    ELSE m.importance * exp(greatest(-500, (
        SELECT sum(ln(greatest(1e-200, 1 - ({_THAT_DAY}))))
        FROM generate_series(0, least($2 - m.importance_decayed_through, $5::integer) - 1) AS n
    )))
END)"""  # noqa: S608


def _importance(params: DecayParams, rate: float) -> Formula:
    return Formula(
        task="decay-importance",
        column="importance",
        watermark="importance_decayed_through",
        due=Due(f"m.importance_decayed_through < $2 AND m.importance > {LEAST_IMPORTANCE}", (params.day,)),
        after=_IMPORTANCE,
        arguments=(rate, params.at, params.max_days),
        rate=rate,
        max_days=params.max_days,
    )
