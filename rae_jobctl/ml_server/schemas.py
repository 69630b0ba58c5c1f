"""What the server is asked, with its limits. Nothing of a refused body is repeated: it may be the text of a memory."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rae_jobctl.ml_server.embeddings import MODEL
from rae_jobctl.ml_server.errors import Refused

MAX_BODY_BYTES = 1024 * 1024
MAX_TEXT = 20_000
MAX_TEXTS = 256
MAX_NODES = 5_000
MAX_ID = 200
MAX_LABEL = 255
#: Fields that one refusal names.
_NAMED = 3

T = TypeVar("T", bound=BaseModel)
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class _Request(BaseModel):
    # Fields that RAE's clients send beyond ours are none of our business.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class ExtractRequest(_Request):
    """POST /extract-triples. Both of RAE's methods are answered by the same rules."""

    text: Text
    language: Literal["en"] = "en"
    method: Literal["dependency", "simple"] = "dependency"


class Node(_Request):
    """An entity of the graph."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    label: Annotated[str, Field(max_length=MAX_LABEL)]


class ResolveRequest(_Request):
    """POST /resolve-entities."""

    nodes: Annotated[list[Node], Field(max_length=MAX_NODES)]
    similarity_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.85

    @model_validator(mode="after")
    def _ids_differ(self) -> ResolveRequest:
        if len({node.id for node in self.nodes}) < len(self.nodes):
            raise ValueError("two nodes have the same id")
        return self


class EmbedRequest(_Request):
    """POST /embeddings. Another model's name is refused: its vectors would lie in another space than ours."""

    texts: Annotated[list[Text], Field(max_length=MAX_TEXTS)]
    model: Literal["rae-hash-384", "default", ""] | None = None


assert MODEL in EmbedRequest.model_fields["model"].annotation.__args__[0].__args__  # type: ignore[union-attr]


def parse(kind: type[T], body: bytes) -> T:
    """The request in a body.

    Raises:
        Refused: 400 for what is no JSON, 422 for what is no such request.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> Refused:
    found = error.errors(include_input=False, include_url=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return Refused(400, "InvalidJson", "the body is no JSON object")
    named = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg'].removeprefix('Value error, ')}" for one in found[:_NAMED]]
    return Refused(422, "InvalidRequest", "; ".join(named))
