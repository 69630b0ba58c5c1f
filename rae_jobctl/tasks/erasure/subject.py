"""The person to be erased: identifiers that are checked, and the keyed hash that stands for them in every record."""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from rae_jobctl.errors import BadDataError, ConfigError, UsageError
from rae_jobctl.llm.text import entity_name
from rae_jobctl.settings import Environment, text
from rae_jobctl.tasks.erasure.words import ERASED, Words, normal_form

KEY_VARIABLE = "RAE_ERASURE_KEY"
IDENTIFIER_VARIABLE = "RAE_ERASE_IDENTIFIER"
MIN_LENGTH, MAX_LENGTH = 3, 320
MAX_IDENTIFIERS = 50
_MIN_KEY = 16
# RAE's defaults and our own mark: they stand for no person, and in very many rows.
_NOBODY = frozenset({"default", "api", "system", "none", "null", "anonymous", "erased", "unknown"})


@dataclass(frozen=True)
class Subject:
    """One person of one tenant.

    Attributes:
        tenant_id: whose data.
        words: finds and replaces the identifiers; nothing here prints them.
        names: the identifiers as the graph writes names.
        hashes: one an identifier, sorted.
    """

    tenant_id: UUID
    words: Words = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    hashes: tuple[str, ...]

    @property
    def label(self) -> str:
        """What stands for the person in the audit."""
        return ",".join(self.hashes)


def erasure_key(env: Environment | None = None) -> bytes:
    """The secret of the keyed hash.

    Raises:
        ConfigError: RAE_ERASURE_KEY is unset or too short.
    """
    value = text(os.environ if env is None else env, KEY_VARIABLE)
    if len(value) >= _MIN_KEY:
        return value.encode()
    state = f"has {len(value)} characters, and needs {_MIN_KEY}" if value else "is unset"
    raise ConfigError(
        f"{KEY_VARIABLE} {state}: the audit keeps a keyed hash in place of the person",
        reason="ConfigMissing",
        hint=f'make one and keep it, e.g. {KEY_VARIABLE}="$(openssl rand -hex 32)"; without it nobody can look a person up later',
    )


def checked_identifiers(given: Sequence[str]) -> tuple[str, ...]:
    """The identifiers without surrounding space and repetitions; no message repeats one.

    Raises:
        UsageError: none, or too many.
        BadDataError: one is too short, too long, has a control character, no letter or digit, or names nobody in particular.
    """
    found = {normal_form(one): unicodedata.normalize("NFC", one).strip() for one in given if one.strip()}
    if not found:
        raise UsageError(
            "erase-user needs an identifier of the person",
            hint=f"--identifier-file PATH (- is standard input), {IDENTIFIER_VARIABLE}, or --identifier TEXT",
        )
    if len(found) > MAX_IDENTIFIERS:
        raise UsageError(f"{len(found)} identifiers are more than {MAX_IDENTIFIERS}: one run erases one person")
    for number, identifier in enumerate(found.values(), 1):
        _check(identifier, f"identifier {number}" if len(found) > 1 else "the identifier")
    return tuple(found[key] for key in sorted(found))


def _check(identifier: str, name: str) -> None:
    if not MIN_LENGTH <= len(identifier) <= MAX_LENGTH:
        raise BadDataError(f"{name} has {len(identifier)} characters, and must have {MIN_LENGTH} to {MAX_LENGTH}")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") for c in identifier):
        raise BadDataError(f"{name} holds a control character or one that is none", hint="one identifier a line, in UTF-8")
    if sum(c.isalnum() for c in identifier) < MIN_LENGTH - 1:
        raise BadDataError(f"{name} has too few letters and digits to stand for one person")
    if normal_form(identifier) in _NOBODY or Words((identifier,)).found(ERASED):
        raise BadDataError(
            f"{name} is a word that RAE writes where no person is meant", hint="it would match nearly every row of the tenant"
        )


def subject_of(tenant_id: UUID, identifiers: Sequence[str], key: bytes) -> Subject:
    """The subject of checked identifiers."""
    names = {entity_name(one) for one in identifiers} - {""}
    hashes = {_hash(tenant_id, one, key) for one in identifiers}
    return Subject(tenant_id, Words(tuple(identifiers)), tuple(sorted(names)), tuple(sorted(hashes)))


def _hash(tenant_id: UUID, identifier: str, key: bytes) -> str:
    return hmac.new(key, f"{tenant_id}\n{normal_form(identifier)}".encode(), hashlib.sha256).hexdigest()
