"""From a request's body to the answer's: what the lanes' threads do."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from rae_jobctl.llm.local_provider import extract_by_rules, load_parser
from rae_jobctl.llm.types import Memory
from rae_jobctl.ml_server.embeddings import DIMENSION, MODEL, embed
from rae_jobctl.ml_server.entities import group_names
from rae_jobctl.ml_server.schemas import EmbedRequest, ExtractRequest, ResolveRequest, parse

_NOBODY = UUID(int=0)


def extract_triples(body: bytes) -> bytes:
    """POST /extract-triples, by the rules of the local provider.

    Raises:
        Refused: the body is no such request.
    """
    request = parse(ExtractRequest, body)
    found = extract_by_rules([Memory(_NOBODY, request.text)])
    triples = [
        {"subject": t.subject, "predicate": t.predicate, "object": t.object, "confidence": round(t.confidence, 4)}
        for t in found.triples
    ]
    return encode({"triples": triples})


def resolve_entities(body: bytes) -> bytes:
    """POST /resolve-entities, by spelling.

    Raises:
        Refused: the body is no such request.
    """
    request = parse(ResolveRequest, body)
    groups, entities = group_names([node.label for node in request.nodes], request.similarity_threshold)
    statistics = {
        "nodes_processed": len(request.nodes),
        "groups_found": len(groups),
        "total_clusters": entities,
        "similarity_threshold": request.similarity_threshold,
        "average_group_similarity": round(sum(g.similarity for g in groups) / len(groups), 4) if groups else 0.0,
    }
    return encode({"merge_groups": [[request.nodes[i].id for i in group.members] for group in groups], "statistics": statistics})


def embeddings(body: bytes) -> bytes:
    """POST /embeddings, by hashing.

    Raises:
        Refused: the body is no such request.
    """
    request = parse(EmbedRequest, body)
    return encode({"embeddings": embed(request.texts), "model": MODEL, "dimension": DIMENSION})


def warm_up() -> None:
    """Load the parser, so that the first request need not.

    Raises:
        ConfigError: the `local` extra is not installed.
    """
    load_parser()


def encode(answer: Any) -> bytes:
    """JSON as it goes over the wire."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
