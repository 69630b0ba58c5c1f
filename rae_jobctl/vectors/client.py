"""Qdrant's REST API over httpx: the seven calls that the tasks need, each safe to repeat.

Every call that reads a tenant's points or deletes any is filtered by the payload's tenant_id, in the server.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx

from rae_jobctl.errors import ConfigError, TaskError, TransientError
from rae_jobctl.vectors.settings import QdrantSettings
from rae_jobctl.vectors.types import NewPoint, Page, Point, PointId

#: Pauses before the further tries of one call; whatever lasts longer is for the Job's next attempt.
RETRY_SECONDS = (0.2, 1.0)
TENANT = "tenant_id"

Json = dict[str, Any]


class _NoAnswer(TransientError):
    """Not within the timeout."""


class QdrantClient:
    """Calls on one collection.

    Args:
        settings: where it is.
        http: made by `open_qdrant`.
    """

    def __init__(self, settings: QdrantSettings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        self._path = f"/collections/{quote(settings.collection, safe='')}"

    @property
    def collection(self) -> str:
        """Name of the collection."""
        return self._settings.collection

    async def vector_sizes(self) -> dict[str, int]:
        """The dimension of each vector of the collection, by name; the name is empty where there is one nameless vector.

        Sparse vectors and those of several rows are left out.

        Raises:
            ConfigError: no such collection, a refused key, or not a Qdrant at all.
            TransientError: no answer.
            These two are raised by every other call as well.
        """
        found = await self._call("GET", self._path)
        try:
            vectors = found["config"]["params"].get("vectors") or {}
            named = {"": vectors} if isinstance(vectors.get("size"), int) else vectors
            return {name: int(one["size"]) for name, one in named.items() if not one.get("multivector_config")}
        except (LookupError, TypeError, AttributeError, ValueError):
            raise self._not_qdrant() from None

    async def scroll(self, tenant_id: UUID, offset: PointId | None, limit: int, payload: Sequence[str]) -> Page:
        """A page of one tenant's points, in the order of ids.

        Args:
            tenant_id: whose.
            offset: `next` of the page before, None for the first; the point need not exist any more.
            limit: points of a page.
            payload: the keys wanted; RAE's payload may hold a memory's text, so never all of it.
        """
        return await self._scroll({"must": [_match(str(tenant_id))]}, offset, limit, payload)

    async def first_outside(self, tenants: Sequence[str], points: Sequence[PointId]) -> Point | None:
        """The first point that has a tenant_id which is none of `tenants`, and is none of `points`; with its tenant_id."""
        outside: list[Json] = [{"is_empty": {"key": TENANT}}]
        if tenants:
            outside.append({"key": TENANT, "match": {"any": list(tenants)}})
        if points:
            outside.append({"has_id": list(points)})
        page = await self._scroll({"must_not": outside}, None, 1, [TENANT])
        return page.points[0] if page.points else None

    async def count(self, tenant: str | None) -> int:
        """How many points have exactly this tenant_id; None counts those without any."""
        condition = {"is_empty": {"key": TENANT}} if tenant is None else _match(tenant)
        found = await self._call("POST", f"{self._path}/points/count", {"filter": {"must": [condition]}, "exact": True})
        return int(found["count"])

    async def owners(self, ids: Sequence[UUID]) -> dict[UUID, str | None]:
        """The tenant_id of those of `ids` that are points; None where its payload has none."""
        body = {"ids": [str(one) for one in ids], "with_payload": [TENANT], "with_vector": False}
        found = await self._call("POST", f"{self._path}/points", body)
        points = [_point(entry) for entry in found]
        return {one.uuid: one.payload.get(TENANT) for one in points if one.uuid is not None}

    async def delete(self, tenant_id: UUID, ids: Sequence[PointId]) -> None:
        """Delete those of `ids` that belong to the tenant; a point of another tenant stays whatever its id."""
        if not ids:
            return
        body = {"filter": {"must": [{"has_id": list(ids)}, _match(str(tenant_id))]}}
        await self._call("POST", f"{self._path}/points/delete?wait=true", body)

    async def upsert(self, points: Sequence[NewPoint]) -> None:
        """Write points, each whole; the caller has made sure that none of the ids is another tenant's point."""
        if points:
            await self._call("PUT", f"{self._path}/points?wait=true", {"points": [_as_json(one) for one in points]})

    async def _scroll(self, condition: Json, offset: PointId | None, limit: int, payload: Sequence[str]) -> Page:
        body = {"filter": condition, "limit": limit, "with_payload": list(payload), "with_vector": False}
        found = await self._call("POST", f"{self._path}/points/scroll", body | ({} if offset is None else {"offset": offset}))
        try:
            return Page(tuple(_point(entry) for entry in found["points"]), found.get("next_page_offset"))
        except (LookupError, TypeError, AttributeError):
            raise self._not_qdrant() from None

    async def _call(self, method: str, path: str, body: Json | None = None) -> Any:
        for pause in RETRY_SECONDS:
            try:
                return await self._once(method, path, body)
            except _NoAnswer:
                # It took its time already; three of them would outlast a pod's grace.
                raise
            except TransientError:
                await asyncio.sleep(pause)
        return await self._once(method, path, body)

    async def _once(self, method: str, path: str, body: Json | None) -> Any:
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if response.status_code != 200:
            raise await self._refusal(response)
        try:
            return response.json()["result"]
        except (ValueError, LookupError, TypeError):
            raise self._not_qdrant() from None

    def _unreachable(self, error: httpx.HTTPError) -> TaskError:
        if _is_tls(error):
            hint = "check the scheme of QDRANT_URL, and that the server's certificate is one that this image trusts"
            return ConfigError(f"TLS with Qdrant at {self._settings.url} failed", reason="QdrantTls", hint=hint)
        kind = _NoAnswer if isinstance(error, httpx.TimeoutException) else TransientError
        return kind(
            f"cannot reach Qdrant at {self._settings.url} ({type(error).__name__})",
            reason="QdrantUnreachable",
            hint="is the server up, and does QDRANT_URL (or QDRANT_HOST and QDRANT_PORT) fit?",
        )

    async def _refusal(self, response: httpx.Response) -> TaskError:
        status, where = response.status_code, f"Qdrant at {self._settings.url}"
        if status in (401, 403):
            missing = "" if self._settings.api_key else ", which is not set"
            hint = f"check QDRANT_API_KEY{missing}; a repair needs a key that may write"
            return ConfigError(f"{where} refuses the API key ({status})", reason="QdrantLogin", hint=hint)
        if status in (408, 425, 429) or status >= 500:
            return TransientError(f"{where} answered {status}", reason="QdrantBusy")
        if status == 404 and _is_envelope(response):
            return await self._no_collection()
        if status in (400, 422) and _is_envelope(response):
            # Its text may quote a payload.
            return ConfigError(f"{where} does not accept the request ({status})", reason="QdrantRefused")
        return self._not_qdrant()

    async def _no_collection(self) -> ConfigError:
        # RAE makes the collection when it stores its first vector.
        message = f"Qdrant at {self._settings.url} has no collection {self.collection!r}"
        hint = f"set QDRANT_COLLECTION_NAME to RAE's collection{await self._others()}"
        return ConfigError(message, reason="QdrantCollectionMissing", hint=hint)

    async def _others(self) -> str:
        try:
            response = await self._http.get("/collections")
            names = sorted(one["name"] for one in response.json()["result"]["collections"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return ""
        return f"; there are: {', '.join(names[:10])}" if names else "; there is none yet: RAE makes it with its first memory"

    def _not_qdrant(self) -> ConfigError:
        hint = "QDRANT_URL is that of the REST API, port 6333, not of gRPC (6334) or of a proxy in front"
        return ConfigError(f"what answers at {self._settings.url} is no Qdrant", reason="QdrantUnknown", hint=hint)


@asynccontextmanager
async def open_qdrant(settings: QdrantSettings) -> AsyncIterator[QdrantClient]:
    """A client for the length of the block; nothing is sent before the first call."""
    headers = {"api-key": settings.api_key} if settings.api_key else {}
    async with httpx.AsyncClient(base_url=settings.url, headers=headers, timeout=settings.timeout) as http:
        yield QdrantClient(settings, http)


def _match(tenant: str) -> Json:
    return {"key": TENANT, "match": {"value": tenant}}


def _point(entry: Mapping[str, Any]) -> Point:
    return Point(entry["id"], entry.get("payload") or {})


def _as_json(point: NewPoint) -> Json:
    nameless = point.vectors.get("")
    return {"id": str(point.id), "vector": nameless or dict(point.vectors), "payload": dict(point.payload)}


def _is_envelope(response: httpx.Response) -> bool:
    """Whether an error is in Qdrant's own form."""
    try:
        return "status" in response.json()
    except (ValueError, TypeError):
        return False


def _is_tls(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
