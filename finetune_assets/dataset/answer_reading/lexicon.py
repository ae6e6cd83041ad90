"""Words that turn an answer round, leave it open or take it back, in the languages that models answer in.

They are looked for in folded text (lower case, compatible spellings) from which the task's own words were taken out. A
word too many costs a reading; a word too few makes a wrong one: so other languages' `no`, `ni`, `o` are among them.
In the lists, white space parts the entries, `_` is whatever lies between two words, and the rest is as in patterns.
"""

from __future__ import annotations

import re
from collections import defaultdict

_NEGATIONS = r"""
no not non none nor neither never nothing nobody nowhere nope nay nil cannot without w/o hardly barely scarcely almost
nearly unlikely implausible wrong incorrect inaccurate false untrue mistaken opposite contrary except unless instead
than less least minus lacks? lacking lacked absent absence missing denie[sd] deny denying excludes? excluded excluding
exclusion eliminates? eliminated rul(?:e[sd]?|ing)_(?:\w+_){0,3}?out free_(?:of|from) negative_for rejects? rejected
refute[sd]? disprove[sdn]? contradicts? fail(?:s|ed)? avoid(?:s|ed)? anything_but all_but far_from short_of other_than
opposed_to clear_of devoid void_of negati[vf]\w* neg contra distractor
(?:is|are|was|were|do|does|did|has|have|had|ca|could|would|should|wo|ai|must|need|might)n['’`]?t
nicht nichts kein\w* ohne nie niemals mitnichten nirgends nirgendwo weder
ausgeschlossen\w* ausschlu\w+ ausschlie\w+ auszuschlie\w+ frei_(?:von|vom) widerleg\w+ verneint\w* unwahrscheinlich\w*
fehlt fehlend\w* kaum statt außer falsch nein
alles_andere_als
n['’]\w+ ne pas aucune? sans jamais rien faux fausse ni absente? exclu\w* [ée]cart[ée]\w* exempte?s?_de d[ée]pourvu\w*
sin nunca jamás ning[uú]n[oa]? nada tampoco falso falsa ausencia ausente descart\w+ libre_de exent[oa] privo_di
priva_di
senza mai nessun[oa]? né não sem nenhuma? niet geen zonder nooit nie bez brak inte ingen inget inga ikke utan uden
не нет без ни никогда нельзя отсутству\w+ вряд немає навряд değil yok ليس لا غير بدون لم لن नहीं
nem ei eivät ilman tidak bukan tanpa belum không chưa není nejsou nebyl\w* nu δεν όχι χωρίς לא אינו אינה אין ללא ไม่
næppe neppe knappast bynajmniej allesbehalve affatto apenas
"""
_CJK_NEGATIONS = "[不没沒無无未非否别別勿莫]|ない|なかった|ません|なし|じゃな|ではな|아니|아닙|않|없|못"
_SIGNS_OF_NEGATION = r"[¬≠✗✘❌❎🚫⊄⊥☐□]|!=|~~|<(?:s|del|strike)>|\\(?:neg|neq?|lnot|cancel|sout)\b"
_NO_AS_VALUE = (
    r"[:=]\s*(?:[-\u2013\u2014\u2212∅nf]|n/a)(?=\s*(?:$|[,.;\n]))"
    r"|[(\[]\s*(?:[-\u2013\u2014\u2212](?:\s?ve)?|[∅nf]|n/a)\s*[)\]]"
)
"""As tables of findings write it: `nodule: -`, `nodule (-ve)`, `nodule: N`."""

_DOUBTS = r"""
unsure uncertain\w* unclear undetermined undecided undecidable inconclusive indeterminate ambiguous equivocal unknown
guess\w* no_idea no_clue (?:not|never|\w+n['’]?t)_(?:\w+_)?(?:sure|certain|clear|know|tell|confident|convinced)
(?:impossible|hard|difficult|tough|tricky)_to as_an_ai also_possible equally both toss-?up coin_flip depends depending
(?:cannot|can['’]?t|can_not|couldn['’]?t|could_not|unable_to)_(?:\w+_)?(?:say|tell|determine|decide|judge|know|be|see)
(?:cannot|can['’]?t|can_not|unable_to)_(?:\w+_)?(?:answer|identify|assess|assist|help|confirm|conclude|make|provide)
unklar unsicher ungewiss weiß_nicht weiss_nicht incertaine? inciert[oa] incert[oa] ne_sais no_s[eé] non_so
"""
_CJK_DOUBTS = "不确定|不確定|不知道|不清楚|わからない|分からない|분명하지|모르"

_HEDGES = r"""
may might maybe perhaps possib\w+ potential\w* probab\w+ presumabl\w+ likely apparent\w* appears? appeared seem\w*
could suspect\w* suspici\w+ suggest\w* questionable borderline doubt\w* if whether either or versus vs assum\w+
suppos\w+ provided look(?:s|ed)?_like consistent_with between to_some_extent somewhat partly partially half_and_half
sometimes occasionally rather sort_of kind_of more_or_less mixed mostly largely mainly predominantly generally
practically virtually partial incomplete\w* tentative\w* provisional\w* pending compatible_with differential
exceptions?
favou?r(?:s|ed|ing)? concern(?:s|ing)?_(?:for|about) hints?_(?:of|at) to_be_(?:checked|confirmed|verified|determined)
previously formerly history_of resolved status_post repaired replaced until yet_to about_to on_the_way will_be
will_become
becom\w+ risks? danger odds likelihood chances? claim\w* alleged\w* unsupported unconfirmed unproven unverified
disagree\w*
so-called unlike similar\w* resembl\w+ compar(?:ed|able|ison) different_from like_(?:an?|the) as_good_as
would_(?:look|show|have|need|appear|require|mean) (?:some|others|one|many)_(?:would|might|may)
verdacht\w* verdächtig\w* v\.\s?a z\.\s?n am_ehesten eher hinweise?_auf überwiegend weitgehend
größtenteils grösstenteils teilweise teils zum_teil anscheinend scheinbar offenbar womöglich mutmaßlich\w*
gegebenenfalls ggf nahezu beinahe
fast(?=\s\0) bedingt sofern zustand_nach früher
vielleicht möglich\w* eventuell wahrscheinlich\w* vermutlich könnte dürfte wohl ob falls wenn entweder oder scheint
fraglich\w* evtl soupçon\w* plutôt presque quasi\w* partiel\w* en_partie vraisembl\w+ [ée]ventuel\w*
peut-être peut_être possibles? probables? pourrait semble soit ou si
sospech\w+ sospett\w+ suspeit\w+ casi quase parcial\w* parzial\w*
quizás? tal_vez acaso posible\w* podría parece o u entre forse magari potrebbe sembra oppure
talvez possível poderia provavelmente misschien mogelijk kanske kanskje måske chyba może lub
возможно может наверное вероятно вряд кажется похоже скорее или если можливо мабуть belki veya muhtemelen olabilir
ehkä talán možná asi snad poate ίσως mungkin ربما قد אולי शायद waarschijnlijk lijkt förmodligen troligen verkar
formentlig trolig prawdopodobnie raczej
tempted arguably lean(?:s|ing|ed)? towards? approach\w* (?:was|were)_thought used_to stopped cleared
family_history fhx familienanamnese antécédents_familiaux
prior last_(?:week|month|year|time) years?_ago months?_ago
"""
_CJK_HEDGES = (
    "疑|似|看起来|看起來|倾向|傾向|几乎|幾乎|基本|ほぼ|可能|也许|也許|或许|或許|大概|好像|似乎|如果|还是|還是|或|吗|嗎|かも|たぶん|多分|おそらく|でしょうか|ようだ|らしい|または"
    "|아마|수도|혹은|또는|까요"
)
# A question, or a count of 0.
_SIGNS_OF_HEDGING = r"[?？]|(?<![\w.,])0(?![\w.,])"

_DEGREES = r"[\d\0]\s?(?:%|percent|prozent)|(?<![\w.,])[01]?[.,]\d|(?<!\w)(?:half|halb|p\()(?=\s?\0)"
"""How sure or how far, as a number."""

_BOUNDS = r"""
half twice double triple ish
over under above below beyond up_to at_(?:least|most) (?:more|fewer|less)_than exceed\w* maximum minimum max min
between from range[sd]? ranging through out_of scale
two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty thirty forty fifty several few
january february march april may june july august september october november december
mindestens höchstens über unter bis zwischen mehr_als weniger_als knapp plus_de moins_de au_moins au_plus entre jusqu
más_de menos_de al_menos hasta più_di meno_di almeno mais_de pelo_menos meer_dan minder_dan minstens hoogstens
mer_än mindre_än минимум более менее больше меньше
"""
_SIGNS_OF_BOUNDS = r"以[上下内內]|超|-?fold\b|-?fach\b|[<>≤≥⩽⩾±∓]|\+/-|\\(?:leq?|geq?|lt|gt|pm)\b"

_RETRACTIONS = r"""
(?:no|nope|nah|non|nein|nee|não|nej)\b\s*(?:$|[,.;:!—–-]) (?:not|never|nicht|pas)\b wait\b hmm+\b oh\b sorry\b
correction\b scratch\b hold\b rather\b instead\b nevermind\b never_mind actually\b i_mean\b just_kidding\b on_second\b
or\b oder\b ou\b let_me_re\w+ i_was_wrong\b my_mistake\b i_take_(?:that|it)_back quite_the_opposite the_opposite
(?:that|this|it|which|the_above)(?:['’]s|_(?:is|was|seems|would_be))_(?:\w+_)?(?:wrong|incorrect|false|mistaken|untrue)
(?:that|this|it|which)(?:['’]s|_(?:is|was))_not_(?:\w+_)?(?:right|true|correct|so|it|the_case|the_answer)
(?:that|this|it)_isn['’]t_(?:right|true|correct|so|the_case|the_answer) moment\b warte\b doch\b attends?\b espera\b
等等 いや 아니
"""


def _entries(words: str) -> list[str]:
    return words.replace("_", r"\W+").split()


def _any(words: str, *more: str) -> re.Pattern[str]:
    by_letter: dict[str, list[str]] = defaultdict(list)
    for entry in _entries(words):
        by_letter[entry[0] if entry[0].isalpha() else ""].append(entry)
    # Grouped by their first letters, several hundred words are found several times as fast.
    groups = [f"{letter}(?:{'|'.join(entry[len(letter) :] for entry in same)})" for letter, same in by_letter.items()]
    return re.compile("|".join([rf"(?<!\w)(?:{'|'.join(groups)})(?!\w)", *more]))


NEGATION = _any(_NEGATIONS, _CJK_NEGATIONS, _SIGNS_OF_NEGATION, _NO_AS_VALUE)
"""The sentence says something else than its words."""
DOUBT = _any(_DOUBTS, _CJK_DOUBTS)
"""Whoever wrote it does not know, whatever else is written."""
HEDGE = _any(_HEDGES, _CJK_HEDGES, _SIGNS_OF_HEDGING)
"""The sentence leaves it open."""
DEGREE = re.compile(_DEGREES)
"""How much of a word there is to it: `50 % defective`, `defective: 0.3`."""
BOUND = _any(_BOUNDS, _SIGNS_OF_BOUNDS)
"""A number that is a limit, an end of a range, a day or one of several."""
RETRACTION = re.compile(rf"\W*(?:(?:and|but|aber|mais|pero) )?(?:{'|'.join(_entries(_RETRACTIONS))})")
"""How a sentence begins that takes back the one before it."""
CONTRAST = re.compile(r"(?<!\w)(?:but|however|though|although|yet|aber|mais|pero|cependant|allerdings)(?!\w)|但")
"""After it, a negation takes back what was said before."""
BECAUSE = re.compile(
    r"(?<!\w)(?:because|due to|(?:since|as|given)(?= (?:it|its|there|the|they|we|i|this|that|he|she)(?!\w))|weil|denn"
    r"|parce que?|puisque|porque|ya que|perch[eé]|pois)(?!\w)|(?<=, )(?:da|car) |因为|因為|由于|なぜなら|왜냐"
)
"""What follows explains the answer, and no longer is it."""
SENTENCE_END = re.compile(r"(?<=[.!?])(?=\s|$)|(?<=[.!?][\"'”’)\]*_`])(?=\s|$)|[。！？!?]|\n+|;\s|；")
CONCLUSION = re.compile(
    r"(?<!\w)(?:so|therefore|thus|hence|consequently|daher|somit|donc|por lo tanto|quindi)(?!\w)|所以|因此"
)
"""Where the clause of an answer begins anew within its sentence."""
