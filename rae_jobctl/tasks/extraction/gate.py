"""The gate before the model: memories that cannot hold a fact are done without a call."""

from __future__ import annotations

import re

from rae_jobctl.llm.text import fold

_SMALL_TALK = re.compile(
    r"((hi|hello|hey|yo|good (morning|afternoon|evening|night)|welcome back)( there| again| all| everyone| team)?"
    r"|(ok|okay|sure|yes|no|yep|nope|great|cool|nice|perfect|awesome|got it|sounds good|will do|understood|done|lol|haha)"
    r"|(many )?(thanks|thank you|thx|cheers)( a lot| so much| again| for (your|the) help)?"
    r"|(bye|goodbye|see you|talk (to you )?later|have a (nice|good|great) (day|evening|weekend))( soon| later)?"
    r"|how are you( doing)?( today)?|(i am|i'm) (fine|good|ok|here)|(can|could) you (help|repeat|hear) (me|that)( please)?"
    r"|as an ai( language model)?( i (can not|can't|cannot) .{0,80})?|how can i help( you)?( today)?)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?,;:]+\s*|\s*\n\s*|\s+-\s+")
_LETTER = re.compile(r"[^\W\d_]")


def has_content(text: str) -> bool:
    """Whether a memory may state a fact: greetings, thanks and talk about the conversation alone do not.

    In doubt it says yes: a needless call is cheaper than a lost fact.
    """
    folded = fold(text)
    if len(_LETTER.findall(folded)) < 3:
        return False
    parts = [part.strip() for part in _SENTENCE.split(folded)]
    return any(part and _LETTER.search(part) and not _SMALL_TALK.fullmatch(part) for part in parts)
