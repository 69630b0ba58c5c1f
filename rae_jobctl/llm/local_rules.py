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
from rae_jobctl.llm.local_names import GENERIC, VERSION, names_something, phrase_text
from rae_jobctl.llm.text import MAX_EVIDENCE, entity_name
from rae_jobctl.llm.types import EntityType
from rae_jobctl.llm.words import words

# spaCy ships no types; a token, a span or a document of it.
Token = Any
Doc = Any

# Verbs whose base form the rules of the small model get wrong ("routes" becomes "rout").
_MENDED_LEMMAS = {"rout": "route"}
_NOMINAL = frozenset({"NOUN", "PROPN", "NUM", "X", "SYM"})
_SUBJECTS = frozenset({"nsubj", "nsubjpass"})
_OBJECTS = frozenset({"dobj", "obj", "dative", "oprd"})
_RELATIVE = frozenset({"which", "who", "that", "whom"})
_HEDGES = frozenset(
    {"may", "might", "could", "would", "should", "can", "will"}
    | {"if", "unless", "whether", "maybe", "perhaps", "possibly", "probably"}
)
_SKIPPED_PREPOSITIONS = frozenset(
    {"like", "than", "per", "via", "due", "because", "as", "if", "unlike", "instead", "without"}
    | {"since", "during", "until", "before", "after"}
)
#: Prepositions after an object that say something of the deed: "signed the agreement with Acme", not "the head of sales".
_OF_THE_DEED = frozenset({"with", "at", "on", "from", "to", "into", "in", "about"})
_REPORTING = frozenset({"say", "tell", "ask", "remark", "note", "report", "mention"})
#: What follows may never come to be.
_INTENDING = frozenset({"want", "plan", "hope", "wish", "intend", "aim", "expect", "like", "try", "prefer", "need", "consider"})
#: Verbs after which "as a ..." says what their subject, or their object, is.
_SERVING = frozenset({"join", "work", "start", "serve", "act", "begin"})
_APPOINTING = frozenset({"appoint", "hire", "name", "elect", "choose", "promote"})
_BYLINE = re.compile(
    r"(?:\s\(|--\s*by\s+|\bBy\s+)((?:[A-Z][\w.'’-]+)(?:\s+(?:de|van|von|la|[A-Z][\w.'’-]*)){1,3})(?=[,).;]|\s*$|\s+and\b)"
)
#: Verbs that begin a change log's line, where a parser sees a noun.
_IMPERATIVES = words("imperatives")
_NAMED, _HALF_NAMED, _PLAIN = 0.9, 0.8, 0.7


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
            if token.pos_ in ("VERB", "AUX") and not VERSION.fullmatch(token.text) and token.dep_ not in ("aux", "auxpass"):
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
        yield from self._states(subjects, verb, sentence)
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
                role = f"IS_{re.sub('[^a-z0-9]+', '_', entity_name(phrase_text(attribute)))}_{preposition.lower_}"
                yield from self._make(subjects, _negated(verb, role), self._objects_of(preposition), verb, sentence)

    def _prepositional(self, subjects: list[_Name], relation: str, verb: Token, sentence: Any) -> Iterator[Claim]:
        has_object = any(child.dep_ in _OBJECTS for child in verb.children)
        for preposition, word in _prepositions(verb):
            if word == "as":
                yield from self._as_a(subjects, preposition, verb, sentence)
            if word in _SKIPPED_PREPOSITIONS or (_lemma(verb) in _REPORTING and not has_object):
                continue
            targets = [name for name in self._objects_of(preposition) if name.type is not EntityType.QUANTITY]
            if verb.lemma_ == "be":
                # "is in Berlin" tells of names only; between plain nouns it is most often an idiom.
                targets = [name for name in targets if name.named]
            less = 0.05 if has_object else 0.0
            yield from self._make(subjects, f"{relation}_{word}", targets, verb, sentence, less=less)

    def _as_a(self, subjects: list[_Name], preposition: Token, verb: Token, sentence: Any) -> Iterator[Claim]:
        """ "joined as an engineer", "appointed her as chief"."""
        lemma = _lemma(verb)
        who = self._objects(verb) if lemma in _APPOINTING else subjects if lemma in _SERVING else []
        yield from self._make(who, _negated(verb, "IS_A"), self._objects_of(preposition), verb, sentence)

    def _states(self, subjects: list[_Name], verb: Token, sentence: Any) -> Iterator[Claim]:
        """ "is allergic to peanuts": an adjective with its preposition."""
        for adjective in (child for child in verb.children if child.dep_ == "acomp"):
            for preposition, word in _prepositions(adjective):
                relation = _negated(verb, f"IS_{adjective.lower_}_{word}")
                yield from self._make(subjects, relation, self._objects_of(preposition), verb, sentence)

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
            # Of two subjects the first is a heading that the parser took in: "Reminder: reports go to Finance".
            return self._subject_names(own[-1], verb), own[-1].dep_ == "nsubjpass"
        if depth > 3:
            return [], False
        if verb.dep_ == "acl" and verb.tag_ == "VBN":
            return self._names(verb.head), True
        if verb.dep_ == "acl" and verb.tag_ == "VBG":
            return self._names(verb.head), False
        if _is_done_by_object(verb):
            return self._objects(verb.head), False
        if verb.dep_ == "advcl" and _has_to(verb):
            return self._subjects(verb.head, depth + 1)
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
        objects = [child for child in verb.children if child.dep_ in _OBJECTS]
        if verb.dep_ == "conj" and any(child.lower_ in ("it", "them") for child in objects):
            # "reviewed the request and merged it"
            return self._objects(verb.head)
        return [name for child in objects for name in self._names(child)]

    def _objects_of(self, preposition: Token) -> list[_Name]:
        return [name for child in preposition.children if child.dep_ == "pobj" for name in self._names(child)]

    def _names(self, token: Token) -> list[_Name]:
        """The name at a token and those coordinated with it."""
        heads = [token, *(other for other in _coordinated(token) if other.pos_ in _NOMINAL or other.text[:1].isupper())]
        return [name for head in heads if (name := self._name(head)) is not None]

    def _name(self, token: Token) -> _Name | None:
        if token.pos_ == "PRON":
            return self._antecedent(token.lower_)
        is_version = bool(VERSION.fullmatch(token.text))
        is_nominal = token.pos_ in _NOMINAL or token.text[:1].isupper() or is_version
        is_stop = token.is_stop and not (token.pos_ == "PROPN" and token.i > token.sent.start)
        if not is_nominal or is_stop or token.pos_ in ("VERB", "AUX"):
            return None
        text = phrase_text(token)
        plain = entity_name(text)
        if not names_something(plain) or (token.lemma_.lower() in GENERIC and " " not in plain):
            return _Name(text, EntityType.PERSON, True) if _is_the_user(token) else None
        if token.sent.start == token.i - plain.count(" ") and plain.split()[0] in _IMPERATIVES:
            return None
        label = token.ent_type_
        named = {child.pos_ for child in token.children if child.dep_ in ("compound", "amod") and child.text[:1].isupper()}
        proper = token.pos_ == "PROPN" or "PROPN" in named or known_type(plain) is not None or any(c.isupper() for c in text[1:])
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


def _coordinated(token: Token) -> list[Token]:
    """The other heads of a list; the parser takes the second of three now for an apposition, now for a modifier."""
    found = [other for other in token.conjuncts if other.i > token.i]
    for child in token.children:
        if child.dep_ == "appos" and any(inner.dep_ == "conj" for inner in child.children):
            found += [child, *(other for other in child.conjuncts if other.i > child.i)]
        elif child.dep_ == "nmod" and any(inner.dep_ == "cc" for inner in child.children):
            found.append(child)
    return found


def _prepositions(head: Token) -> list[tuple[Token, str]]:
    """The prepositions of a verb or an adjective with their words: its own, those after its object, and the chained ones."""
    own = [child for child in head.children if child.dep_ == "prep"]
    for target in (child for child in head.children if child.dep_ in _OBJECTS):
        own += [child for child in target.children if child.dep_ == "prep" and child.lower_ in _OF_THE_DEED]
    found = []
    for preposition in own:
        # "because of", "due to", "out of"
        rest = [child.lower_ for child in preposition.children if child.dep_ == "pcomp" and child.pos_ == "ADP"]
        chained = [child for child in preposition.children if child.dep_ == "prep"]
        if preposition.lower_ == "out" and chained:
            found.append((chained[0], f"out_{chained[0].lower_}"))
            continue
        if preposition.lower_ == "of" and preposition.i and preposition.nbor(-1).lower_ == "instead":
            continue
        found.append((preposition, "_".join([preposition.lower_, *rest])))
        # "from MySQL to PostgreSQL"
        found += [(child, child.lower_) for child in chained]
    return found


def _has_to(verb: Token) -> bool:
    return any(child.dep_ == "aux" and child.lower_ == "to" for child in verb.children)


def _is_done_by_object(verb: Token) -> bool:
    """ "selected Airbus to build the relay": Airbus builds."""
    if verb.dep_ != "xcomp" or verb.head.pos_ != "VERB" or not _has_to(verb):
        return False
    return any(child.dep_ in _OBJECTS and child.i < verb.i for child in verb.head.children)


def _is_the_user(token: Token) -> bool:
    """Memories call the one they serve "the user"."""
    return bool(token.lower_ == "user") and any(child.lower_ == "the" for child in token.children)


def _base(subject: _Name, target: _Name) -> float:
    named = subject.named + target.named
    base = _NAMED if named == 2 else _HALF_NAMED if named == 1 else _PLAIN
    return base - 0.1 * (subject.coreferent or target.coreferent)


def _doubt(verb: Token) -> float:
    """How much less sure a clause is for being denied, hedged, conditional, intended or of the future."""
    clause = [verb, *(child for child in verb.children if child.dep_ == "advcl")]
    words = {child.lower_ for child in verb.children if child.dep_ in ("aux", "mark", "advmod", "neg")}
    conditions = {child.lower_ for part in clause for child in part.children if child.dep_ == "mark"} & {"if", "unless"}
    intended = verb.dep_ == "xcomp" and verb.head.lemma_ in _INTENDING
    denied = any(child.dep_ == "neg" for child in verb.children) or (
        verb.dep_ == "xcomp" and any(child.dep_ == "neg" for child in verb.head.children)
    )
    return 0.25 if denied or conditions or intended or words & _HEDGES else 0.0


def _is_copula(verb: Token) -> bool:
    return bool(verb.lemma_ == "be") and any(child.dep_ == "attr" for child in verb.children)


def _lemma(verb: Token) -> str:
    lemma: str = verb.lemma_
    return _MENDED_LEMMAS.get(lemma, lemma)


def _relation(verb: Token) -> str:
    """The verb in its base form, with its particle, and with the verb that governs it ("plan to migrate")."""
    words = [_lemma(verb)] + [child.lemma_ for child in verb.children if child.dep_ == "prt"]
    if verb.dep_ == "xcomp" and verb.head.pos_ == "VERB" and not _is_done_by_object(verb):
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
