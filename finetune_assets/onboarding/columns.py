"""What the columns of a table look like, and which of them is most likely what a task needs."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from finetune_assets.dataset.answer_reading import parse_number
from finetune_assets.onboarding.answers import WAYS_OF_WRITING

Part = Literal["image", "question", "answer", "region", "group", "split", "annotator"]

MAX_DISTINCT = 1_000
"""Different values of a column that are remembered; more are all the same to every question asked here."""
_IMAGE = re.compile(r"(?i)^(data:image/|.*\.(png|jpe?g|webp|bmp|gif|tiff?|dcm|mpo)$)")
_SPLITS = {
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "dev",
    "test",
    "testing",
    "calibration",
    "eval",
    "holdout",
}
_NAMES: dict[Part, str] = {
    "image": """image img filename file path picture photo scan slide url src
        bild datei bilddatei foto fichier imagen archivo ruta
        画像 ファイル 图像 图片 이미지 изображение файл снимок""",
    "question": """question prompt query instruction text input title description
        frage aufgabe beschreibung pregunta texte texto opinion comment komment coment resena avis. domanda testo vraag
        tekst pergunta pytanie opis. soru. metin fraga. 質問 問題 設問 本文 问题 提问 文本 질문 вопрос текст""",
    "answer": """answer label labels target class klass category diagnosis finding truth verdict result response output
        completion price score probability grade defect quality team intent topic sentiment priority rating y
        antwort klasse befund etikett ergebnis note preis miete reponse etiquette classe respuesta etiqueta clase
        urteil bewertung einstufung schweregrad kategorie resultat categorie calificacion valoracion puntuacion
        categoria risposta esito. voto. punteggio resposta rotulo antwoord uitslag oordeel odpowiedz etykieta wynik.
        ocena. cevap. etiket sonuc. svar. betyg.
        回答 答え ラベル 正解 診断 判定 結果 価格 答案 标签 诊断 결과 답변 정답 라벨 ответ метка диагноз класс цена""",
    "region": """region site area bodypart body organ anatomy module location department country line plant sector view
        producttype productcategory standort stadtteil ort bereich koerperregion zone factory facility hospital clinic.
        store. shop. city. branch. warehouse ward. werk. filiale halle. abteilung station. klinik stadt. tienda sucursal
        planta. ciudad. pais. usine magasin ville. hopital loja. cidade reparto stabilimento negozio vestiging afdeling
        oddzial linia. miasto. sklep. bolge. sehir. avdelning
        regiao regione regio. obszar orgao. organo. local. seccion sezione setor
        部位 地域 部門 地区 부위 область отдел""",
    "group": """patient subject case study person panel serial video scene group series session family animal device
        batch lot sequence patientid customer user client author fall kunde gruppe probe sujet paciente cliente
        charge. los. partie. akte. serie. aktenzeichen fallnummer lote. lotto. paziente dossier. expediente pacjent
        partia. hasta. parti. seryjny seri. numeroserie matricola chassis
        患者 患者番号 症例 顧客 患者编号 病人 환자 пациент""",
    "split": "split fold subset partition phase",
    "annotator": """annotator rater reader labeler labeller grader inspector reviewer expert observer judge who
        pruefer gutachter leser annotateur anotador 評価者 読影者 标注者""",
}
"""What people call them, in several languages; letters only, the likeliest first.

With a full stop behind it a word stands alone: `city.` is not in capacity.
"""
MAX_ANNOTATORS = 50


_ACCENT = re.compile("([a-z])[\u0300-\u036f]+")
"""On a Latin letter; those of other scripts make another letter."""


@dataclass(slots=True)
class Column:
    """One column of a table, by the rows that were looked at."""

    name: str
    n: int = 0
    """Rows that have something in it."""
    n_images: int = 0
    """Of these, those that look like the address of an image."""
    n_numbers: int = 0
    """Those that are numbers."""
    n_words: int = 0
    """Words in all of them."""
    values: Counter[str] = field(default_factory=Counter)
    """How often each value occurs, of the first `MAX_DISTINCT` different ones."""
    has_more: bool = False
    """Whether there are more different values than are remembered."""
    sizes: Counter[int] = field(default_factory=Counter)
    """How often lists of each length occur."""
    n_objects: int = 0
    """Lists of objects."""
    n_written_lists: int = 0
    """Texts that are lists as programs write them."""
    entries: set[str] = field(default_factory=set[str])
    """What stands in the lists, of the first `MAX_DISTINCT` different entries."""

    def see(self, value: object) -> None:
        """Take a cell into account; an empty one is none."""
        text = _text(value)
        if not text:
            return
        self.n += 1
        if isinstance(value, list):
            self._see_entries(cast("list[object]", value))
        elif text[0] == "[" and text[-1] == "]":
            self.n_written_lists += 1
        self.n_images += _is_image(value, text)
        self.n_numbers += any(parse_number(text, written) is not None for written in WAYS_OF_WRITING)
        self.n_words += text.count(" ") + 1
        if text in self.values or len(self.values) < MAX_DISTINCT:
            self.values[text[:200]] += 1
        else:
            self.has_more = True

    def _see_entries(self, entries: list[object]) -> None:
        self.sizes[len(entries)] += 1
        self.n_objects += any(isinstance(entry, Mapping) for entry in entries)
        if len(self.entries) < MAX_DISTINCT:
            self.entries |= set(map(_text, entries))

    @property
    def n_distinct(self) -> int:
        """Different values, at most `MAX_DISTINCT`."""
        return len(self.values)

    @property
    def is_images(self) -> bool:
        """Whether most of it are addresses of images, or images."""
        return self.n > 0 and self.n_images >= 0.8 * self.n

    @property
    def is_numbers(self) -> bool:
        """Whether nearly all of it are numbers."""
        return self.n > 0 and self.n_numbers >= 0.98 * self.n

    @property
    def is_lists(self) -> bool:
        """Whether all of it are lists of several entries."""
        return self.n > 0 and self.sizes.total() == self.n and min(self.sizes) > 1

    @property
    def is_written_lists(self) -> bool:
        """Whether all of it are texts that are lists as programs write them."""
        return 0 < self.n == self.n_written_lists

    @property
    def is_constant(self) -> bool:
        """Whether it says the same in every row."""
        return self.n_distinct == 1 < self.n

    @property
    def is_objects(self) -> bool:
        """Whether all of it are lists of objects."""
        return 0 < self.n == self.n_objects

    @property
    def is_split(self) -> bool:
        """Whether it says which split a row was published in."""
        return self.n > 0 and {value.lower() for value in self.values} <= _SPLITS

    @property
    def is_key(self) -> bool:
        """Whether it only names the row: another text or whole number in each."""
        if self.has_more or self.n_distinct < min(self.n, MAX_DISTINCT):
            return self.has_more and not self.is_numbers and self.n_words <= 1.5 * self.n
        return not self.is_numbers or all(value.isdigit() for value in self.values)

    @property
    def is_repeating(self) -> bool:
        """Whether each of its values stands in several rows on average."""
        return not self.has_more and 1 < self.n_distinct <= self.n / 2


def profile(rows: Iterable[Mapping[str, Any]]) -> list[Column]:
    """Look at rows, and give their columns in the order in which they are met; objects count as their parts, `a.b`."""
    found: dict[str, Column] = {}
    for row in rows:
        for name, value in _flat(row):
            found.setdefault(name, Column(name)).see(value)
    return [column for column in found.values() if column.n]


def candidates(columns: Iterable[Column], part: Part) -> list[Column]:
    """List the columns that may be a part of a task, the likeliest first."""
    fitting = [column for column in columns if _may_be(column, part)]
    return sorted(fitting, key=lambda column: _place(column, part))


def _may_be(column: Column, part: Part) -> bool:
    match part:
        case "image":
            return column.is_images
        case "split":
            return column.is_split
        case "region":
            return _is_named(column, part) and column.is_repeating and not column.is_images
        case "group":
            return _is_named(column, part) and not column.is_images and 1 < column.n_distinct < column.n
        case "annotator":
            return _is_named(column, part) and not column.is_numbers and 1 < column.n_distinct <= MAX_ANNOTATORS
        case "question":
            return (
                not (column.is_images or column.is_numbers or column.is_split or column.is_lists)
                and not (column.is_objects or column.is_written_lists)
                and (_is_named(column, part) or column.n_words >= 3 * column.n)
            )
        case "answer":
            return not (column.is_images or column.is_split or column.is_objects) and (
                column.has_more or column.n_distinct > 1
            )


def _place(column: Column, part: Part) -> tuple[int, int]:
    """Where a column stands among those that may be a part: named as people name it first, then the shorter values.

    A likelier word within a name (`answerKey`) goes before a less likely one that is the whole name (`topic`).
    """
    words = _NAMES[part].split()
    letters, within = _letters(column.name), _words_within(column.name)
    ranks = [3 * len(words)]
    for place, word in enumerate(words):
        if letters == word.rstrip("."):
            ranks.append(2 * place)
        elif f"{word.rstrip('.')}." in within:
            ranks.append(2 * place + 1)
        elif len(word) > 2 and word in letters:
            ranks.append(2 * len(words) + place)
    return min(ranks), -column.n_words if part == "question" else column.n_distinct


def _is_named(column: Column, part: Part) -> bool:
    letters, within = _letters(column.name), _words_within(column.name)
    # A sign of Chinese or Japanese says as much as several letters.
    return any(word in within if "." in word
               else letters == word or ((len(word) > 3 or not word.isascii()) and word in letters)
               for word in _NAMES[part].split())  # fmt: skip


def _words_within(name: str) -> set[str]:
    """The words that a name is made of (`Lfd. Nr.`, `lot_id`, `lotId`), each with a full stop behind it."""
    parts = re.split(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])", name.rpartition(".")[2] or name)
    return {f"{_letters(part)}." for part in parts}


def _letters(name: str) -> str:
    plain = unicodedata.normalize("NFD", name.rpartition(".")[2].casefold())
    return "".join(letter for letter in unicodedata.normalize("NFC", _ACCENT.sub(r"\1", plain)) if letter.isalpha())


def _flat(row: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping) and not _holds_an_image(value):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _holds_an_image(value: Mapping[str, Any]) -> bool:
    return "bytes" in value and "path" in value


def _is_image(value: object, text: str) -> bool:
    return (isinstance(value, Mapping) and _holds_an_image(value)) or bool(_IMAGE.match(text))


def _text(value: object) -> str:
    if value is None or value != value:  # not a number
        return ""
    return ("an image" if isinstance(value, Mapping) else str(value)).strip()
