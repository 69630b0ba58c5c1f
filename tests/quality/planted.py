"""Memories with planted themes: made of each theme's own words and of words that all themes share, with noise between them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from uuid import UUID

from rae_jobctl.llm.types import Memory
from rae_jobctl.llm.words import words

NOISE = "noise"
#: Share of the memories that belong to no theme.
NOISE_SHARE = 0.25

#: Who or what, what happened, and about what: a memory takes one of each, at random.
_THEMES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "backup": (
        ("The nightly backup", "The backup of the orders database", "A restore from the snapshot", "The backup host"),
        (
            "failed because the disk was full",
            "took four hours longer than planned",
            "was moved to object storage",
            "was verified",
        ),
        (
            "so the snapshot retention was cut",
            "and the disk alert fired",
            "while the archive was pruned",
            "after the restore drill",
        ),
    ),
    "login": (
        ("The login page", "A user's password reset", "The session cookie", "Single sign-on"),
        ("redirects to an empty screen", "fails on Safari", "expires too early", "asks for the password twice"),
        ("so users cannot log in", "after the cookie changed", "when the token is refreshed", "until the browser is restarted"),
    ),
    "hiring": (
        ("A candidate for the senior engineer position", "The recruiter", "The interview panel", "An applicant from Madrid"),
        ("passed the second interview", "asked about the salary band", "declined the offer", "sent a portfolio"),
        ("so the position stays open", "and the offer letter went out", "before the hiring freeze", "after the reference check"),
    ),
    "training": (
        ("The transformer model", "The attention ablation", "The fine-tuning run", "The learning rate schedule"),
        (
            "converged after two epochs",
            "lowered the validation loss",
            "diverged on long sequences",
            "needed fewer gradient steps",
        ),
        ("so the checkpoint was kept", "on the larger corpus", "with sparse attention heads", "when the batch size doubled"),
    ),
    "billing": (
        ("An invoice of the enterprise plan", "The payment gateway", "A refund to a customer", "The monthly subscription"),
        ("was charged twice", "rejected the credit card", "used the wrong tax rate", "was settled in euros"),
        (
            "so accounting corrected the invoice",
            "and the customer wrote to support",
            "after the price change",
            "before the refund",
        ),
    ),
    "network": (
        ("The load balancer", "A DNS record of the edge zone", "The VPN tunnel", "Packet loss on the uplink"),
        ("dropped connections", "resolved to the old address", "saturated the firewall", "raised the latency"),
        ("so traffic was rerouted", "while the router rebooted", "until the route was announced again", "in the Frankfurt zone"),
    ),
}
_COMMON = (
    ("", "On Monday: ", "From the weekly review: ", "The team noted this again: "),
    (".", ", as the team saw this week.", ", which needs a follow-up.", ", again."),
)
#: Remarks on one matter after another: hundreds of names and things, so that hardly two have one in common.
_PEOPLE, _THINGS = sorted(words("first_names")), sorted(words("technologies"))

_DEEDS = (
    *("read", "tried", "skipped", "demoed", "praised", "sketched", "mentioned", "bookmarked", "dropped", "packaged", "compared"),
    *("recommended", "opened", "pinned", "explored", "forked", "quoted", "questioned", "ported", "watched", "wrapped", "renamed"),
    *("dismissed", "translated", "printed", "shared", "removed", "installed", "solved"),
)
_LINKS = ("with", "for", "against", "before", "after", "instead of", "beside", "over", "under", "because of")


def planted(count: int, seed: int) -> tuple[list[Memory], dict[UUID, str]]:
    """So many memories in the order of their time, and the theme of each (NOISE for none).

    The themes come in turns that last, as work does: the newest memories are of one or two of them.
    """
    chance = random.Random(seed)
    names = list(_THEMES)
    memories: list[Memory] = []
    theme_of: dict[UUID, str] = {}
    for number in range(count):
        # Each theme has one sixth of the time for its own, and some share of the rest.
        leading = names[number * len(names) // count]
        theme = NOISE if chance.random() < NOISE_SHARE else leading if chance.random() < 0.5 else chance.choice(names)
        memory = Memory(UUID(int=chance.getrandbits(128)), _text(theme, chance))
        memories.append(memory)
        theme_of[memory.id] = theme
    return memories, theme_of


def _text(theme: str, chance: random.Random) -> str:
    lead, end = (chance.choice(options) for options in _COMMON)
    if theme == NOISE:
        one, two = chance.sample(_THINGS, 2)
        return f"{lead}{chance.choice(_PEOPLE).title()} {chance.choice(_DEEDS)} {one} {chance.choice(_LINKS)} {two}{end}"
    return f"{lead}{' '.join(chance.choice(part) for part in _THEMES[theme])}{end}"
