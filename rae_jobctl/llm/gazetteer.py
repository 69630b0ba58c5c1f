"""Names whose type a small statistical model often gets wrong: technologies above all, and common first names."""

from __future__ import annotations

import re

from rae_jobctl.llm.text import entity_name
from rae_jobctl.llm.types import EntityType
from rae_jobctl.llm.words import lines, words

_TECHNOLOGIES = frozenset(entity_name(name) for name in lines("technologies"))
_PEOPLE = words("first_names")
_ORGANISATION_WORDS = words("organisation_words")
#: A dotted path or a call, as code is written.
_CODE = re.compile(r"[a-z_]\.[a-z_]|\(\)|/")
_FROM_NER = {
    "PERSON": EntityType.PERSON,
    "ORG": EntityType.ORGANIZATION,
    "NORP": EntityType.ORGANIZATION,
    "GPE": EntityType.LOCATION,
    "LOC": EntityType.LOCATION,
    "FAC": EntityType.LOCATION,
    "PRODUCT": EntityType.PRODUCT,
    "EVENT": EntityType.EVENT,
    "WORK_OF_ART": EntityType.DOCUMENT,
    "LAW": EntityType.DOCUMENT,
    "DATE": EntityType.DATE,
    "TIME": EntityType.DATE,
    "MONEY": EntityType.QUANTITY,
    "PERCENT": EntityType.QUANTITY,
    "QUANTITY": EntityType.QUANTITY,
    "CARDINAL": EntityType.QUANTITY,
    "ORDINAL": EntityType.QUANTITY,
}


def known_type(name: str) -> EntityType | None:
    """The type that lists and shapes give a normalised name, None when they know nothing of it."""
    if name in _TECHNOLOGIES or name.rstrip("0123456789.") in _TECHNOLOGIES:
        return EntityType.TECHNOLOGY
    words = name.split()
    if words[-1] in _ORGANISATION_WORDS and len(words) > 1:
        return EntityType.ORGANIZATION
    if words[-1] in ("project", "programme", "initiative") and len(words) > 1:
        return EntityType.PROJECT
    if len(words) > 1 and words[0] in _TECHNOLOGIES and words[-1][0].isdigit():
        return EntityType.TECHNOLOGY
    return None


def type_of(name: str, label: str, proper: bool) -> EntityType:
    """The type of a normalised name.

    Args:
        label: the statistical model's label, empty when it saw no entity.
        proper: whether the text writes it as a proper noun.
    """
    known = known_type(name)
    if known is not None:
        return known
    if proper and name.split()[0] in _PEOPLE and len(name.split()) <= 3:
        return EntityType.PERSON
    if _CODE.search(name) and label != "PERSON":
        return EntityType.TECHNOLOGY
    if label in _FROM_NER:
        return _FROM_NER[label]
    return EntityType.OTHER if proper else EntityType.CONCEPT
