"""What a plain sentence speaks of: the thing in question, or somebody else and something else.

`They told me it is worn`, `some tyres are worn`, `per the label, it is worn` and `is it true that the tyre is worn` say
nothing of the tyre that was asked about. What may lead to the verb is therefore listed, as are words for other things.
"""

from __future__ import annotations

import re

from finetune_assets.dataset.answer_reading.cues import SOMEBODY_ELSE_S


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text that white space parts."""
    return frozenset(words.split())


COPULAS = word_set(
    """
    is are was were remains remain it’s it's that’s that's ist sind war waren bleibt est sont était c’est c'est es está
    están son fue é são foi è sono era jest są är er zijn blijft
    called named heißt heisst это
    """
)
SHOWS = word_set(
    """
    shows show showing shown see sees has have contains contain reveals displays depicts exhibits indicates confirms
    found detected with zeigt zeigen sehe sieht hat haben mit montre montrent vois a avec muestra muestran veo tiene con
    mostra ha tem com toont heeft met visar har med viser
    """
)
ARTICLES = word_set(
    """
    a an the one this these ein eine einen einem einer der die das den dem un une le la les des du el los las una uno il
    lo i gli um uma o os een het de en ett et den det
    """
)
ADVERBS = word_set(
    """
    clearly definitely certainly obviously plainly evidently visibly undoubtedly surely indeed very really truly
    absolutely completely also now here therefore thus then eindeutig deutlich klar sicher definitiv sehr wirklich auch
    hier daher somit clairement manifestement certainement très bien claramente muy también chiaramente molto duidelijk
    zeker tydligt mycket tydeligt
    """
)
WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_VERBS = COPULAS | SHOWS
_MAIN_VERBS = word_set("is are was were be says said ist sind war est sont était está están são är jest")
"""A plain sentence has one of them; the others of the verbs are words of some other language as well."""
_AUXILIARIES = word_set("is are was were am be been being has have can should i’d i'd would will wird wurde est é es")
_PRONOUNS = word_set(
    "it this that these those there i we you he she they es dies das ich wir ce ça je on nous eso esto yo"
)
_POSSESSIVES = word_set("my our its mein meine unser unsere mon ma notre mi nuestra il mio la mia")
_NOT_IT = word_set(
    """
    all some any every everything something anything everyone someone everybody somebody most many few half each both
    only he she background foreground
    just even part parts rest remainder other others another next adjacent neighbouring neighboring nearby opposite
    reference previous original alle einige manche viele jede jeder jedes andere anderer anderes nur teil tout tous
    toute toutes certains autre autres seul todo todos algunos otro otra otros solo
    """
)
_WHO_REPORTS = word_set(
    """
    technician technicians inspector inspectors radiologist operator operators engineer engineers expert experts
    colleague colleagues customer customers supplier vendor manager reviewer reviewers annotator annotators nurse doctor
    doctors physician surgeon pathologist foreman
    techniker prüfer radiologe arzt kunde lieferant kollege technicien inspecteur radiologue médecin client fournisseur
    técnico inspector radiólogo médico cliente proveedor colega tecnico ispettore medico fornitore
    """
)
_MERE_WORDS = word_set(
    """
    rumour rumor rumours rumors hearsay gossip legend word words term terms phrase name title caption filename heading
    wort begriff gerücht mot terme rumeur palabra término rumor parola termine palavra termo
    """
)
RELATIVES = word_set(
    """
    mother father parent parents sister brother sibling siblings son daughter twin grandmother grandfather aunt uncle
    cousin wife husband family relatives
    mutter vater eltern schwester bruder geschwister tochter sohn großmutter großvater familie
    mère père parents sœur soeur frère fille fils famille madre padre hermana hermano hijo hija familia abuela abuelo
    sorella fratello figlio figlia famiglia nonna nonno mãe pai irmã irmão família avó avô moeder vader zus broer
    """
)
NO_FINDINGS = RELATIVES | word_set(
    """
    fh fhx famhx pmh pmhx hx history anamnesis indication indications reason question request differential dd ddx
    comparison technique risk risks screening example examples options choices legend
    familienanamnese vorgeschichte anamnese indikation fragestellung vergleich
    antécédents indication renseignements antecedentes indicación anamnesi indicazione quesito indicação
    """
)
"""Heads such as `Mother:`, `FH:` and `Indication:`, under which stands what was not found here and now."""
_NOBODY_S_ANSWER = _NOT_IT | RELATIVES | _WHO_REPORTS | _MERE_WORDS
_WITHIN = word_set("of in on at from im am auf in von vom an sur dans de du en del della di")
_GIVEN = word_set("shown provided given depicted pictured above below gezeigte abgebildete montrée mostrada")
_AND = word_set("and und et y e en och og")
_OPENED = re.compile(
    r"(?:(?:based (?:up)?on|judging (?:by|from)|looking at|given|from|in|on|upon|after|as seen (?:in|on)|here)\b[^,:]*"
    r"\b(?:images?|photo\w*|pictures?|scans?|x-?rays?|radiographs?|views?|evidence|features?|findings?|inspection|review"
    r"|examination|analysis|reading|conclusion|summary|short|details?|above|below)"
    r"|(?:yes|ok|okay|sure|well|so|hi|hello|thanks|thank you|of course|ja|oui|sí|sì|overall|finally|in fact|clearly"
    r"|here))?\W*"
)
"""What may stand before a comma and leaves what follows it as it is."""


def speaks_of_it(before: str, named: str = "") -> bool:
    """Return whether the folded words of a clause that lead to an option are about the thing in question.

    Args:
        before: From where the clause begins to the option.
        named: The words at its end that name the option without a verb of ours, as in `I would rate it as`.
    """
    *opened, said = re.split(r"[,:] ", before)
    if not all(_OPENED.fullmatch(part) and _of_nothing_else(WORDS.findall(part)) for part in opened):
        return False
    words = [word for word in WORDS.findall(said) if word not in ADVERBS | _GIVEN]
    if not named:
        return _states(words)
    words = words[: len(words) - len(named.split())]
    while words and words[-1] in _AUXILIARIES:
        words.pop()
    return _is_it(words)


def _states(words: list[str]) -> bool:
    """Return whether words that end in a verb have it, and it says something of their subject."""
    verb = next((at for at, word in enumerate(words) if word in _VERBS), len(words))
    subject, led = words[:verb], words[verb:]
    if not subject and len(led) > 1 and led[0] in COPULAS and led[1] in _PRONOUNS | ARTICLES - {"a", "an"}:
        return False
    if not _is_it(subject):
        return False
    joined = max((at for at, word in enumerate(led) if word in _AND), default=0)
    if joined and led[joined + 1 : joined + 2] and led[joined + 1] in _VERBS:
        return _MAIN_VERBS.isdisjoint(led[1:joined] + led[joined + 2 :])
    if _MAIN_VERBS.isdisjoint(led[1:]):
        return True
    return led[0] in SHOWS and _states([word for word in led[1:] if word not in ("that", "which")])


def _is_it(subject: list[str]) -> bool:
    """Return whether a subject is empty, a pronoun, a noun, or a noun with its article and where it is."""
    if not _of_nothing_else(subject):
        return False
    within = next((at for at, word in enumerate(subject) if word in _WITHIN and at > 1), len(subject))
    return _is_noun(subject[:within]) and _is_noun(subject[within + 1 :])


def _of_nothing_else(words: list[str]) -> bool:
    return _NOBODY_S_ANSWER.isdisjoint(words) and not SOMEBODY_ELSE_S.search(" ".join(words))


def _is_noun(words: list[str]) -> bool:
    if len(words) < 2:
        return True
    led = words[0] in _POSSESSIVES | _PRONOUNS | ARTICLES - {"one"}
    return led and len(words) <= 4 and _PRONOUNS.isdisjoint(words[1:])
