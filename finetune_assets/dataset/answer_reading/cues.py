"""What announces an answer: `The answer is`, `Antwort:`, `答案是`, `####`, a box."""

from __future__ import annotations

import re

from finetune_assets.dataset.answer_reading.mentions import OPENING

_NOUN = (
    r"(?:(?<![^\W_])(?:answer|response|verdict|diagnosis|classification|label|class|category|prediction|conclusion|result"
    r"|decision|judge?ment|rating|grade|assessment|output|choice|option|selection|antwort|lösung|ergebnis|diagnose|réponse"
    r"|résultat|respuesta|resultado|risposta|resposta|antwoord|svar|ответ|odpowiedź|cevap)|答案|答え|回答|解答|答|正解|정답|답변|답)"
)
_LINK = (
    r"(?:\s+(?:choice|option|letter|here|is|are|was|would be|must be|will be|should be|ist|lautet|est|es|è|é|är|er)"
    r"(?!\w)|\s*(?:[:：=]|->|→|=>)|是|为|為|は|은|는)"
)
_ADVERB = r"(?:\s*(?:therefore|thus|hence|clearly|definitely|certainly|simply|obviously|then|either way)\b,?)?"
_NAMED = r"(?:(?:option|choice|letter|answer)\s+)?"
_MARK = r"(?<!\w)(?:option|choice)\s|#{4}|\\boxed\s*\{|<(?:final_)?answer>"
STRONG = re.compile(rf"(?:{_NOUN}[*_\"'`]*{_LINK}+{_ADVERB}|{_MARK})\s*[:：]?{OPENING}{_NAMED}{OPENING}$")
"""Right before what is said to be the answer."""
WEAK = re.compile(
    r"(?:(?<!\w)(?:say|said|choose|pick|select|go with|going with|opt for|vote for|it is|it[’']s|so|therefore|thus"
    rf"|hence|conclude)[,:]?){OPENING}$"
)
"""Right before a letter or a yes or no that is meant as the answer."""
LETTER = re.compile(rf"(?:(?<!\w)(?:is|are|be|must be)|:|=|->|→){OPENING}$")
"""The same, before letters only."""
AFFIRMED = re.compile(
    r"[)\]*_\"'`]*\s+is\s+(?:(?:clearly|definitely|also|likewise|equally) )?(?:the\s+)?(?:most\s+)?"
    r"(?:correct|right|best|true|answer)(?!\w)"
    r"(?:\s+(?:answer|option|choice|one))?\s*(?:[.,;:!]|$|because)"
)
"""Right after it."""
SOMEBODY_ELSE_S = re.compile(
    r"(?<!\w)(?:other|another|second|alternative|previous|earlier|initial|first|old|student|students|student[’']s|common"
    r"|typical|popular|their|your|his|her|tempting|naive)(?!\w)"
)
"""Makes an answer not the one that is given."""
LONGEST = 80
"""No cue is longer; so much of the text before a word is looked at."""


def announced(text: str, start: int, cue: re.Pattern[str]) -> int | None:
    """Return where the cue begins that ends right at `start` of a folded text, or None."""
    found = cue.search(text[max(0, start - LONGEST) : start])
    return None if found is None else max(0, start - LONGEST) + found.start()
