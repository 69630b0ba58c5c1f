"""Triples from a dependency parse: subject, verb and object, with what English puts around them.

Follows the usual clause patterns (subject-verb-object, passive with agent, prepositional objects, copula, apposition,
coordination, relative clauses; compare ClausIE, Del Corro and Gemulla 2013). Each claim quotes its sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rae_jobctl.llm.checks import Claim
from rae_jobctl.llm.gazetteer import known_type, type_of
from rae_jobctl.llm.text import MAX_EVIDENCE, entity_name
from rae_jobctl.llm.types import EntityType
from rae_jobctl.llm.words import words

# spaCy ships no types; a token, a span or a document of it.
Token = Any
Doc = Any

# Verbs whose base form the rules of the small model get wrong ("routes" becomes "rout").
_MENDED_LEMMAS = {"rout": "route"}
_SUBJECTS = frozenset({"nsubj", "nsubjpass"})
_OBJECTS = frozenset({"dobj", "obj", "dative", "oprd"})
_MODIFIERS = frozenset({"compound", "amod", "nmod", "nummod", "quantmod", "poss", "punct", "case", "advmod", "npadvmod"})
_RELATIVE = frozenset({"which", "who", "that", "whom"})
_HEDGES = frozenset({"may", "might", "could", "would", "should", "can"})
_WIDER = frozenset({"ORG", "PRODUCT", "GPE", "LOC", "FAC", "EVENT", "WORK_OF_ART"})
_SKIPPED_PREPOSITIONS = frozenset({"like", "than", "per", "via", "due", "because", "as", "if", "unlike", "instead", "without"})
#: Nouns that name nothing when they stand alone.
_GENERIC = words("generic_nouns")
_BYLINE = re.compile(
    r"(?:\s\(|--\s*by\s+|\bBy\s+)((?:[A-Z][\w.'’-]+)(?:\s+(?:de|van|von|la|[A-Z][\w.'’-]*)){1,3})(?=[,).;]|\s*$|\s+and\b)"
)
#: Verbs that begin a change log's line, where a parser sees a noun.
_IMPERATIVES = words("imperatives")
_VERSION = re.compile(r"v?\d+(\.\w+)+")
_NAMED, _HALF_NAMED, _PLAIN = 0.9, 0.8, 0.7
_MAX_WORDS = 7


@dataclass(frozen=True)
class _Name:
    text: str
    type: EntityType
    named: bool
    coreferent: bool = False


class SentenceReader:
    """Reads one document, sentence by sentence, and remembers who was spoken of last."""

    def __init__(self, doc: Doc) -> None:
        self._doc = doc
        self._person: _Name | None = None
        self._thing: _Name | None = None

    def claims(self) -> Iterator[Claim]:
        """All claims of the document, not yet checked against it."""
        for sentence in self._doc.sents:
            found = list(self._sentence(sentence))
            yield from found
            yield from self._byline(sentence)
            self._remember(sentence)

    def _sentence(self, sentence: Any) -> Iterator[Claim]:
        if sentence.text.rstrip().endswith("?"):
            return
        for token in sentence:
            if token.pos_ in ("VERB", "AUX") and not _VERSION.fullmatch(token.text) and token.dep_ not in ("aux", "auxpass"):
                yield from self._clause(token, sentence)
            elif token.dep_ == "appos":
                yield from self._apposition(token, sentence)

    def _clause(self, verb: Token, sentence: Any) -> Iterator[Claim]:
        subjects, passive = self._subjects(verb)
        if passive:
            agents = [name for child in verb.children if child.dep_ == "agent" for name in self._objects_of(child)]
            yield from self._make(agents, _relation(verb), subjects, verb, sentence)
            yield from self._prepositional(subjects, f"{_participle(verb)}", verb, sentence)
            return
        if _is_copula(verb):
            yield from self._copula(subjects, verb, sentence)
            return
        relation = _relation(verb)
        yield from self._make(subjects, relation, self._objects(verb), verb, sentence)
        yield from self._prepositional(subjects, relation, verb, sentence)

    def _copula(self, subjects: list[_Name], verb: Token, sentence: Any) -> Iterator[Claim]:
        for child in verb.children:
            if child.dep_ != "attr":
                continue
            # "Berlin is the capital of Germany" says more than "Berlin is capital".
            fuller = list(self._role(subjects, child, verb, sentence))
            yield from fuller
            if not fuller:
                relation = _negated(verb, "IS_A" if any(c.lower_ in ("a", "an") for c in child.children) else "IS")
                yield from self._make(subjects, relation, self._names(child), verb, sentence)

    def _role(self, subjects: list[_Name], attribute: Token, verb: Token, sentence: Any) -> Iterator[Claim]:
        for preposition in attribute.children:
            if preposition.dep_ == "prep" and preposition.lower_ in ("of", "for", "at", "in"):
                role = f"IS_{re.sub('[^a-z0-9]+', '_', entity_name(_phrase_text(attribute)))}_{preposition.lower_}"
                yield from self._make(subjects, _negated(verb, role), self._objects_of(preposition), verb, sentence)

    def _prepositional(self, subjects: list[_Name], relation: str, verb: Token, sentence: Any) -> Iterator[Claim]:
        for preposition in verb.children:
            if preposition.dep_ != "prep" or preposition.lower_ in _SKIPPED_PREPOSITIONS:
                continue
            targets = [name for name in self._objects_of(preposition) if name.type is not EntityType.QUANTITY]
            if verb.lemma_ == "be":
                # "is in Berlin" tells of names only; between plain nouns it is most often an idiom.
                targets = [name for name in targets if name.named]
            yield from self._make(subjects, f"{relation}_{preposition.lower_}", targets, verb, sentence, less=0.05)

    def _apposition(self, token: Token, sentence: Any) -> Iterator[Claim]:
        between = self._doc[token.head.i + 1 : token.left_edge.i].text
        heads, roles = self._names(token.head), self._names(token)
        if not heads or not roles or between.strip() != ",":
            return
        head, role = heads[0], roles[0]
        if head.named and not role.named:
            yield from self._make([head], "IS_A", [role], token, sentence, less=0.05)
        elif role.named and not head.named and role.type is EntityType.PERSON:
            yield from self._make([role], "IS_A", [head], token, sentence, less=0.05)

    def _byline(self, sentence: Any) -> Iterator[Claim]:
        """Change logs leave the doer to a byline: "Fix psql to skip in-line data (Tom Lane)"."""
        root = sentence.root
        if root.pos_ != "VERB" or root.i > sentence.start + 1 or any(c.dep_ in _SUBJECTS for c in root.children):
            return
        tail = self._doc.text[sentence.start_char : sentence.start_char + MAX_EVIDENCE]
        head_line = tail.partition("\n")[0]
        match = _BYLINE.search(head_line)
        if match is None:
            return
        author = _Name(match.group(1), EntityType.PERSON, True)
        evidence = head_line[: match.end()]
        for target in self._objects(root):
            if target.text in evidence:
                yield Claim(author.text, root.lemma_, target.text, evidence, 0.8, author.type, target.type)

    def _make(
        self, subjects: list[_Name], relation: str, objects: list[_Name], verb: Token, sentence: Any, *, less: float = 0.0
    ) -> Iterator[Claim]:
        for subject in subjects:
            for target in objects:
                if target.text == subject.text:
                    continue
                confidence = _base(subject, target) - less - _doubt(verb)
                evidence = _evidence(sentence, verb)
                yield Claim(subject.text, relation, target.text, evidence, round(confidence, 2), subject.type, target.type)

    def _subjects(self, verb: Token, depth: int = 0) -> tuple[list[_Name], bool]:
        """The names that act in a clause, and whether they suffer instead (passive)."""
        own = [child for child in verb.children if child.dep_ in _SUBJECTS]
        if own:
            passive = own[0].dep_ == "nsubjpass"
            names = [name for child in own for name in self._subject_names(child, verb)]
            return names, passive
        if depth > 3:
            return [], False
        if verb.dep_ == "acl" and verb.tag_ == "VBN":
            return self._names(verb.head), True
        if verb.dep_ == "acl" and verb.tag_ == "VBG":
            return self._names(verb.head), False
        if verb.dep_ in ("conj", "xcomp") and verb.head.pos_ in ("VERB", "AUX"):
            names, passive = self._subjects(verb.head, depth + 1)
            has_own_auxiliary = any(c.dep_ == "auxpass" for c in verb.children)
            return names, has_own_auxiliary or (passive and verb.dep_ == "conj" and verb.tag_ == "VBN")
        return [], False

    def _subject_names(self, token: Token, verb: Token) -> list[_Name]:
        if token.lower_ in _RELATIVE and verb.dep_ == "relcl":
            # The parser attaches ", which" to the nearest noun; a date or number never acts.
            return [name for name in self._names(verb.head)[:1] if name.type not in (EntityType.DATE, EntityType.QUANTITY)]
        return [name for name in self._names(token) if name.type is not EntityType.QUANTITY]

    def _objects(self, verb: Token) -> list[_Name]:
        return [name for child in verb.children if child.dep_ in _OBJECTS for name in self._names(child)]

    def _objects_of(self, preposition: Token) -> list[_Name]:
        return [name for child in preposition.children if child.dep_ == "pobj" for name in self._names(child)]

    def _names(self, token: Token) -> list[_Name]:
        """The name at a token and those coordinated with it."""
        found = [self._name(token)]
        found += [
            self._name(other) for other in token.conjuncts if other.i > token.i and other.pos_ in ("NOUN", "PROPN", "NUM", "X")
        ]
        return [name for name in found if name is not None]

    def _name(self, token: Token) -> _Name | None:
        if token.pos_ == "PRON":
            return self._antecedent(token.lower_)
        is_version = bool(_VERSION.fullmatch(token.text))
        if (token.pos_ not in ("NOUN", "PROPN", "NUM", "X", "SYM") and not is_version) or token.is_stop:
            return None
        text = _phrase_text(token)
        plain = entity_name(text)
        if not _names_something(plain) or (token.lemma_.lower() in _GENERIC and " " not in plain):
            return None
        if token.sent.start == token.i - plain.count(" ") and plain.split()[0] in _IMPERATIVES:
            return None
        label = token.ent_type_
        proper = token.pos_ == "PROPN" or known_type(plain) is not None or any(c.isupper() for c in text[1:])
        kind = type_of(plain, label, proper)
        if kind in (EntityType.CONCEPT, EntityType.QUANTITY) and not any(c.isalpha() for c in plain):
            return None
        return _Name(text, kind, proper or (bool(label) and kind is not EntityType.QUANTITY))

    def _antecedent(self, pronoun: str) -> _Name | None:
        if pronoun in ("he", "she") and self._person is not None:
            return _Name(self._person.text, self._person.type, True, coreferent=True)
        if pronoun == "it" and self._thing is not None:
            return _Name(self._thing.text, self._thing.type, True, coreferent=True)
        return None

    def _remember(self, sentence: Any) -> None:
        """A pronoun of the next sentence means this one's subject, if that is a name and the only one of its sort."""
        subjects = [t for t in sentence if t.dep_ in _SUBJECTS and t.pos_ != "PRON"]
        names = [name for token in subjects for name in self._names(token) if name.named]
        people = [name for name in names if name.type is EntityType.PERSON]
        things = [name for name in names if name.type is not EntityType.PERSON]
        if len(people) == 1:
            self._person = people[0]
        elif people:
            self._person = None
        if len(things) == 1:
            self._thing = things[0]
        elif subjects:
            self._thing = None


def _names_something(plain: str) -> bool:
    if len(plain) < 2 or plain in _GENERIC or ", " in plain or plain.count(" ") >= _MAX_WORDS:
        return False
    return plain.count("(") == plain.count(")") and not plain.startswith(("%", "-", "="))


def _base(subject: _Name, target: _Name) -> float:
    named = subject.named + target.named
    base = _NAMED if named == 2 else _HALF_NAMED if named == 1 else _PLAIN
    return base - 0.1 * (subject.coreferent or target.coreferent)


def _doubt(verb: Token) -> float:
    """How much less sure a clause is for being hedged, conditional or of the future."""
    words = {child.lower_ for child in verb.children if child.dep_ in ("aux", "mark", "advmod")}
    if words & _HEDGES or words & {"if", "unless", "whether", "maybe", "perhaps", "possibly", "probably"}:
        return 0.25
    return 0.1 if "will" in words else 0.0


def _is_copula(verb: Token) -> bool:
    return bool(verb.lemma_ == "be") and any(child.dep_ == "attr" for child in verb.children)


def _lemma(verb: Token) -> str:
    lemma: str = verb.lemma_
    return _MENDED_LEMMAS.get(lemma, lemma)


def _relation(verb: Token) -> str:
    """The verb in its base form, with its particle, and with the verb that governs it ("plan to migrate")."""
    words = [_lemma(verb)] + [child.lemma_ for child in verb.children if child.dep_ == "prt"]
    if verb.dep_ == "xcomp" and verb.head.pos_ == "VERB":
        linked = [child.lower_ for child in verb.children if child.dep_ == "aux" and child.lower_ == "to"]
        words = [verb.head.lemma_, *linked, *words]
    return _negated(verb, "_".join(words))


def _participle(verb: Token) -> str:
    return _negated(verb, verb.lower_)


def _negated(verb: Token, relation: str) -> str:
    longer = [child for child in verb.children if child.lower_ == "longer"]
    if any(word.lower_ in ("no", "not") for child in longer for word in child.children):
        return f"NO_LONGER_{relation}"
    governed = verb.dep_ == "xcomp" and any(child.dep_ == "neg" for child in verb.head.children)
    return f"NOT_{relation}" if governed or any(child.dep_ == "neg" for child in verb.children) else relation


def _phrase_text(token: Token) -> str:
    """The noun with its contiguous modifiers to the left, a version to its right, and the whole of a named entity."""
    start, end = token.i, token.i + 1
    left = {child.i for child in token.lefts if child.dep_ in _MODIFIERS and child.pos_ not in ("DET", "PRON")}
    for child in sorted(left, reverse=True):
        inner = token.doc[child]
        if inner.right_edge.i + 1 != start:
            break
        start = inner.left_edge.i
    doc = token.doc
    is_number = token.pos_ == "NUM" or _VERSION.fullmatch(token.text)
    if is_number and start == token.i > token.sent.start and doc[start - 1].pos_ == "PROPN":
        # "Django 5.2": the parser takes now the name, now the version for the head.
        start -= 1
    if (
        end < len(doc)
        and doc[end].pos_ == "NUM"
        and doc[end].dep_ in ("nummod", "appos")
        and any(c.isdigit() for c in doc[end].text)
    ):
        end += 1
    start, end = _widen_to_entity(token, start, end)
    while start < token.i and _leads_in(doc[start], token):
        start += 1
    while end - 1 > token.i and doc[end - 1].pos_ in ("ADV", "PUNCT", "SPACE"):
        end -= 1
    return str(doc[start:end].text)


def _leads_in(word: Token, head: Token) -> bool:
    """Whether a word before a name is no part of it; "out-of-bounds" and "fully featured" are."""
    if word.doc[word.i + 1].text == "-":
        return False
    return (
        word.pos_ in ("DET", "PUNCT", "PRON", "SPACE")
        or (word.is_stop and word.pos_ != "PROPN")
        or (word.pos_ == "ADV" and word.head == head)
    )


def _widen_to_entity(token: Token, start: int, end: int) -> tuple[int, int]:
    if not token.ent_type_:
        return start, end
    first, last = _entity_around(token)
    if token.ent_type_ == "PERSON":
        # "Acme's CTO Dana Lee" is Dana Lee.
        return first, last
    return (min(start, first), max(end, last)) if token.ent_type_ in _WIDER else (start, end)


def _entity_around(token: Token) -> tuple[int, int]:
    # Not by `ents` of the sentence: that goes through the whole document each time.
    doc, first, last = token.doc, token.i, token.i + 1
    while doc[first].ent_iob_ == "I" and first > 0:
        first -= 1
    while last < len(doc) and doc[last].ent_iob_ == "I":
        last += 1
    return first, last


def _evidence(sentence: Any, verb: Token) -> str:
    """The sentence, or where it is too long the words around the verb, never cut within one."""
    text = str(sentence.text).strip()
    if len(text) <= MAX_EVIDENCE:
        return text
    doc = sentence.doc
    start = end = verb.i
    while True:
        grow_left = start > sentence.start and doc[start - 1].idx >= doc[end].idx + len(doc[end]) - MAX_EVIDENCE
        if grow_left:
            start -= 1
        grow_right = end + 1 < sentence.end and doc[end + 1].idx + len(doc[end + 1]) - doc[start].idx <= MAX_EVIDENCE
        if grow_right:
            end += 1
        if not grow_left and not grow_right:
            return str(doc[start : end + 1].text).strip()
