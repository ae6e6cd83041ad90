"""Which column of a table is most likely what a task needs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from finetune_assets.dataset.column_looks import Column
from finetune_assets.errors import TaskError

Part = Literal["image", "question", "answer", "region", "group", "split", "annotator"]

_NAMES: dict[Part, str] = {
    "image": """image img filename file path picture photo scan slide url src
        bild datei bilddatei foto fichier imagen archivo ruta
        画像 ファイル 图像 图片 이미지 изображение файл снимок""",
    "question": """question prompt query instruction text input title description
        frage aufgabe beschreibung pregunta texte texto opinion comment komment coment resena avis. domanda testo vraag
        tekst pergunta pytanie opis. soru. metin fraga.
        descripcion descricao descrizione 質問 問題 設問 本文 问题 提问 文本 질문 вопрос текст""",
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
_KEYS = ("id", "ids", "uuid", "guid", "uid", "index", "idx", "unnamed")
"""How names end of columns that only say which one it is."""


_ACCENT = re.compile("([a-z])[\u0300-\u036f]+")
"""On a Latin letter; those of other scripts make another letter."""


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
            return not (column.is_images or column.is_split or column.is_objects or is_key_by_name(column)) and (
                column.has_more or column.n_distinct > 1
            )


def require_several(columns: Iterable[Column], found: Sequence[Column], n_rows: int) -> None:
    """Refuse a table whose column of answers says the same in every row, before another one is taken for it.

    Raises:
        TaskError: that is so.
    """
    constant = (column for column in columns if column.is_constant and column.n == n_rows)
    same = next((column for column in constant if _is_named(column, "answer")), None)
    if same is not None and not any(_is_named(column, "answer") for column in found):
        [word] = same.values
        raise TaskError(
            f"column {same.name} says {word!r} in every row, so there is nothing to learn; add rows that say "
            "something else, or name another column by --set answer=COLUMN"
        )


def is_key_by_name(column: Column) -> bool:
    """Return whether a column numbers the rows or other things, by its name; `class_id` is a class all the same."""
    parts = re.split(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])", column.name.rpartition(".")[2])
    last = next((part.casefold() for part in reversed(parts) if part), "")
    return last in _KEYS and not _is_named(column, "answer")


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
