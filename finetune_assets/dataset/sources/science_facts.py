"""Science questions with answer and explanation, from the tables of three packages.

Physics is from scipy (CODATA constants, units), chemistry from mendeleev (elements), biology from Biopython (genetic
code, amino acids, restriction enzymes).

The answer is short, its explanation a sentence. The wording of a question is chosen by a hash of the fact. All
questions about one thing (a constant, an element, a codon, a recognition site) are one group, so that nothing that a
model was trained on is asked again in another split. So only what follows from a rule or is widely known is asked: no
training on other constants tells the value of this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.reading.cells import text
from finetune_assets.dataset.sources.origin import Origin, key
from finetune_assets.dataset.sources.packages import INSTALL
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import Answer, TextAnswer
from finetune_assets.task.sources import ScienceFactsSource


@dataclass(frozen=True, slots=True)
class Fact:
    """One question with its answer and explanation."""

    about: str
    """What it is about; facts about one thing stay in one split."""
    wordings: tuple[str, ...]
    answer: str
    explanation: str


def read(source: ScienceFactsSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the facts of one science.

    Raises:
        SourceError: there is no such science here, or its package is not installed.
    """
    if not region:
        for science in _SCIENCES:
            yield from read(source, science, answer)
        return
    if region not in _SCIENCES:
        raise SourceError(f"source science_facts: has the regions {', '.join(_SCIENCES)}, not {region}")
    package, facts = _SCIENCES[region]
    separator = answer.separator if isinstance(answer, TextAnswer) else ""
    try:
        for number, fact in enumerate(facts(), 1):
            name = key(region, fact.about, *fact.wordings)
            yield Origin(region, UPath(package), number, "row").example(
                f"{fact.answer} {separator} {fact.explanation}",
                answer,
                id=f"{region}/{name}",
                question=fact.wordings[int(name, 16) % len(fact.wordings)],
                group=f"{region}/{fact.about}",
            )
    except ImportError as error:
        raise SourceError(f"the package {package} is not installed; {INSTALL}") from error


def regions(_: ScienceFactsSource) -> Iterator[str]:
    """Stream the sciences."""
    return iter(_SCIENCES)


def _physics() -> Iterator[Fact]:
    from scipy import constants

    for name in constants.find():
        value, unit, _ = constants.physical_constants[name]
        about = name.split(" in ")[0].removesuffix(" energy equivalent")
        asked = (f"In which unit is the {name} given?", f"What is the unit of the {name}?")
        explanation = f"CODATA gives the {name} as about {_number(value)} {unit}".strip()
        yield Fact(about, asked, unit or "none, it is a number", f"{explanation}.")
    for unit, names in _UNITS.items():
        for name in names:
            words = name.replace("_", " ")
            asked = (f"In which unit of the SI is one {words} expressed?", f"One {words} is how many of which SI unit?")
            yield Fact(words, asked, unit, f"One {words} is about {_number(getattr(constants, name))} {unit}.")


_UNITS = {
    "metres": ("inch", "foot", "yard", "mile", "mil", "nautical_mile", "angstrom", "micron", "light_year", "parsec"),
    "kilograms": ("grain", "ounce", "pound", "stone", "long_ton", "short_ton", "carat", "metric_ton", "slug"),
    "seconds": ("minute", "hour", "day", "week", "year", "Julian_year"),
    "pascals": ("atmosphere", "bar", "torr", "psi"),
    "joules": ("electron_volt", "calorie", "erg", "Btu", "ton_TNT"),
    "cubic metres": ("liter", "gallon", "fluid_ounce", "barrel"),
    "square metres": ("hectare", "acre"),
    "metres per second": ("kmh", "mph", "knot", "speed_of_sound"),
    "newtons": ("dyne", "pound_force", "kilogram_force"),
    "watts": ("horsepower",),
    "radians": ("degree", "arcminute", "arcsecond"),
}


def _chemistry() -> Iterator[Fact]:
    from mendeleev.fetch import fetch_table

    series = dict(fetch_table("series")[["id", "name"]].itertuples(index=False))
    columns = ["symbol", "name", "series_id", "group_id", "period", "block", "electronic_configuration"]
    for symbol, name, series_id, group, period, block, electrons in fetch_table("elements")[columns].itertuples(
        index=False
    ):
        element, family = name.lower(), series[series_id].lower()
        place = f"period {period}" + (f", group {int(group)}" if text(group) else f", {block} block")
        who = f"{name} ({symbol})"
        asked = (f"What is the chemical symbol of {element}?", f"Which symbol stands for the element {element}?")
        yield Fact(element, asked, symbol, f"{who} is one of the {family}.")
        asked = (f"Which element has the symbol {symbol}?", f"Which element does the symbol {symbol} stand for?")
        yield Fact(element, asked, element, f"{who} is in {place}.")
        asked = (
            f"To which family of elements does {element}, in {place}, belong?",
            f"What kind of element is {element}, in {place}?",
        )
        yield Fact(element, asked, family, f"{who} is in {place}.")
        asked = (
            f"An atom has the electrons {electrons}. In which period and block is it?",
            f"Where in the periodic table is the element with the electrons {electrons}?",
        )
        yield Fact(element, asked, f"period {period}, {block} block", f"{who} has the electrons {electrons}.")


def _biology() -> Iterator[Fact]:
    from Bio.Data import CodonTable

    for table_id, code in ((1, "the standard genetic code"), (2, "the mitochondria of vertebrates")):
        table = CodonTable.unambiguous_rna_by_id[table_id]
        for codon in (a + b + c for a in "UCAG" for b in "UCAG" for c in "UCAG"):
            letter = table.forward_table.get(codon)
            answer = _AMINO_ACIDS[letter][0] if letter else "none, it is a stop codon"
            meaning = f"encodes {answer}" if letter else "ends the protein"
            asked = (
                f"Which amino acid does the codon {codon} encode in {code}?",
                f"In {code}, what does the mRNA triplet {codon} stand for?",
            )
            yield Fact(codon, asked, answer, f"In {code} {codon} {meaning}.")
    for letter, (name, code) in _AMINO_ACIDS.items():
        asked = (f"What is the one-letter code of {name}?", f"Which letter stands for {name} in a protein sequence?")
        yield Fact(name, asked, letter, f"The amino acid {name} is written {letter} or {code}.")
        asked = (f"What is the three-letter code of {name}?", f"How is {name} abbreviated with three letters?")
        yield Fact(name, asked, code, f"The amino acid {name} is written {code} or {letter}.")
    yield from _restriction_enzymes()


def _restriction_enzymes() -> Iterator[Fact]:
    from Bio.Restriction.Restriction_Dictionary import rest_dict

    for enzyme, facts in sorted(rest_dict.items()):
        site, cut, overhang = facts["site"], facts["fst5"], facts["ovhg"]
        # Only enzymes that one can buy, that cut inside their site, and whose site is plain.
        if not facts["suppl"] or cut is None or not 0 <= cut <= len(site) or set(site) - set("ACGT"):
            continue
        shown = f"{site[:cut]}^{site[cut:]}"
        ends = "blunt ends" if overhang == 0 else f"{'5' if overhang < 0 else '3'}' overhangs"
        explanation = f"{enzyme} cuts {shown} and leaves {ends}."
        asked = (f"{enzyme} cuts {shown}. Which DNA does it recognise?", f"What is the site of {enzyme}, cut {shown}?")
        yield Fact(site, asked, site, explanation)
        asked = (f"Which ends does {enzyme} leave when it cuts {shown}?", f"{enzyme} cuts {shown}. What are the ends?")
        yield Fact(site, asked, ends, explanation)


_AMINO_ACIDS = {
    "A": ("alanine", "Ala"), "R": ("arginine", "Arg"), "N": ("asparagine", "Asn"), "D": ("aspartic acid", "Asp"),
    "C": ("cysteine", "Cys"), "Q": ("glutamine", "Gln"), "E": ("glutamic acid", "Glu"), "G": ("glycine", "Gly"),
    "H": ("histidine", "His"), "I": ("isoleucine", "Ile"), "L": ("leucine", "Leu"), "K": ("lysine", "Lys"),
    "M": ("methionine", "Met"), "F": ("phenylalanine", "Phe"), "P": ("proline", "Pro"), "S": ("serine", "Ser"),
    "T": ("threonine", "Thr"), "W": ("tryptophan", "Trp"), "Y": ("tyrosine", "Tyr"), "V": ("valine", "Val"),
}  # fmt: skip
"""Names and three-letter codes; Biopython has the codes, but not the names."""

_SCIENCES = {"physics": ("scipy", _physics), "chemistry": ("mendeleev", _chemistry), "biology": ("biopython", _biology)}


def _number(value: float) -> str:
    """Write a number with the digits that a person would say."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"
