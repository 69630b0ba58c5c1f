"""Plain sentences out of changelogs written in reStructuredText, Markdown or Debian's form."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 600

_TICKET = r":(gh|pr|issue|pull|ticket|commit|PR|cve)[\w-]*:`[^`]*`"
# Each takes markup, a ticket number or an address out and leaves the words.
_CLEANINGS = [
    (r"\[?`#?\d+ <[^>]*>`__?[\]:,]*", ""),
    (r"\s*\(?\bin \[#\d+\]\([^)]*\)\)?", ""),
    (r"\s*\(\s*(\[?#\d+\]?(\([^)]*\))?[,;\s]*)+(and\s*)?\)", ""),
    (rf"\s*\(\s*(extracted from|and|part of|see|closes|fixes|[,;\s]|{_TICKET})+\)", ""),
    (r"\bSee\b[^.]* for more details\.\s*", ""),
    (r"^PR #?\d*:?\s*", ""),
    (r"[\s,]*(and )?:(ghpull|gh-pull|issue|pull|pr|ticket|gh|pr-distributed):`[^`]*`", ""),
    (r"\s*\(?`?PR[- ]#\d+[^)]*\)", ""),
    (r"\|(Fix|Feature|Enhancement|Efficiency|API|MajorFeature)\|\s*", ""),
    (r":[\w:+-]+:`[!~]?([^`<]*?)\s*<[^>`]*>`", r"\1"),
    (r":[\w:+-]+:`~[^`]*?([\w]+)(\(\))?`", r"\1"),
    (r":[\w:+-]+:`[!.]*([^`]*)`", r"\1"),
    (r"`([^`<]+?)\s*<[^>`]*>`__?", r"\1"),
    (r"\[([^\]]+)\]\([^)\s]*\)", r"\1"),
    (r"``([^`]*)``", r"\1"),
    (r"`([^`]*)`_{0,2}", r"\1"),
    (r"\b([A-Za-z-]+)_(?=[\s.,)]|$)", r"\1"),
    (r"\*\*([^*]+)\*\*", r"\1"),
    (r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"\1"),
    (r"<?[\w.+-]+@[\w-]+\.[\w.-]+>?", ""),
    (r"\s*\(Closes: [^)]*\)", ""),
    (r"\s+\(\s*\)", ""),
    (r"\s+([.,;])(?=\s|$)", r"\1"),
    (r"\.\.(?=\s|$)", "."),
    (r"[ \t\n]+", " "),
]  # fmt: skip
# What no cleaning took out would read as noise: code, tables, bare links, substitutions.
_NOISE = re.compile(r"`|::|>>>|https?:|\||<|={2}|\$ |\\|\*\*|@\w+\.|^\W")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|resp|approx|[A-Z])\.$")
_BULLET = re.compile(r"^(\s*)([-*+]|\d+\.)\s+(?=\S)")


def clean(text: str) -> str:
    """`text` without markup, ticket numbers and e-mail addresses."""
    for pattern, replacement in _CLEANINGS:
        text = re.sub(pattern, replacement, text)
    return text.strip(" :-\n")


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph; an abbreviation's full stop ends none."""
    found: list[str] = []
    for part in re.split(r"(?<=[.!?])\s+(?=[A-Z\"“(])", text):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] += " " + part
        else:
            found.append(part)
    return found


def shorten(text: str, longest: int = LONGEST) -> str:
    """As many whole sentences of `text` as fit into `longest` characters; paragraphs stay apart."""
    kept = ""
    for paragraph in text.split("\n\n"):
        joint = "\n\n" if kept else ""
        for sentence in sentences(paragraph):
            if len(kept) + len(joint) + len(sentence) > longest:
                return kept
            kept += joint + sentence
            joint = " "
    return kept


def _without_headings(lines: list[str]) -> Iterator[str]:
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        underline = re.fullmatch(r"\s*([=\-~^\"'.`#*+])\1{2,}\s*", line)
        underlined = re.fullmatch(r"([=\-~^\"'.`#*+])\1{2,}\s*", following) and line.strip()
        yield "" if underline or underlined or line.startswith("#") else line


def _raw_blocks(lines: list[str]) -> Iterator[list[str]]:
    """Bullets with what is indented under them, and paragraphs, each as its lines."""
    block: list[str] = []
    indent = -1
    skip_under: int | None = None
    for line in _without_headings(lines):
        depth = len(line) - len(line.lstrip())
        bullet = _BULLET.match(line)
        if skip_under is not None and (not line.strip() or depth > skip_under):
            continue
        skip_under = depth if re.match(r"\s*(\.\. |```)", line) else None
        ends_bullet = indent >= 0 and line.strip() and depth <= indent
        ends_paragraph = indent < 0 and not line.strip()
        if bullet or ends_bullet or ends_paragraph or skip_under is not None:
            yield block
            block, indent = [], -1
        if bullet:
            indent = depth
            line = line[bullet.end() :]
        if skip_under is None:
            block.append(line.strip())
    yield block


def blocks(lines: list[str]) -> Iterator[str]:
    """The entries of a release as clean text, in order; what still holds code or markup is left out."""
    for block in _raw_blocks(lines):
        paragraphs = [clean(part) for part in "\n".join(block).split("\n\n")]
        text = ""
        for paragraph in paragraphs:
            if not paragraph or _NOISE.search(paragraph) or not re.search(r"[.!?)\w]$", paragraph):
                break
            text += ("\n\n" if text else "") + paragraph
        if text and re.search(r"[.!?)]$", text):
            yield text
