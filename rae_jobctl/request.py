"""The request that a custom resource carries to its pod, in the variable RAE_REQUEST."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rae_jobctl.errors import BadDataError

VARIABLE = "RAE_REQUEST"
#: A process's environment has limits of its own; a request that is larger names its memories by a query instead.
MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Request:
    """What the operator hands to the task.

    Attributes:
        kind, name, namespace, uid: of the custom resource.
        attempt: 1 for the first.
        key: identity of the work: the resource's idempotency key, or its uid.
        spec: the task's own fields, camelCase as in the resource.
    """

    kind: str
    name: str
    namespace: str
    uid: str
    attempt: int
    key: str
    spec: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object that RAE_REQUEST holds."""
        body = {"kind": self.kind, "name": self.name, "namespace": self.namespace, "uid": self.uid, "attempt": self.attempt}
        key = {} if self.key == self.uid else {"idempotencyKey": self.key}
        return {**body, **key, "spec": dict(self.spec)}


def read_request(env: Mapping[str, str] | None = None) -> Request | None:
    """The request of this process, or None when there is none.

    Raises:
        BadDataError: the variable is too large or is not the JSON object that the operator writes.
    """
    text = (os.environ if env is None else env).get(VARIABLE, "")
    if not text:
        return None
    if len(text.encode()) > MAX_BYTES:
        raise BadDataError(
            f"{VARIABLE} has {len(text.encode())} bytes, more than {MAX_BYTES}",
            hint="name the memories by tenant, project and limit instead of by id",
        )
    try:
        body = json.loads(text)
        return Request(
            kind=str(body["kind"]),
            name=str(body["name"]),
            namespace=str(body.get("namespace", "")),
            uid=str(body["uid"]),
            attempt=int(body.get("attempt", 1)),
            key=str(body.get("idempotencyKey") or body["uid"]),
            spec=dict(body["spec"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadDataError(
            f"{VARIABLE} is not a request: {type(error).__name__}",
            hint='it is JSON with "kind", "name", "uid" and "spec", as the operator writes it',
        ) from None
