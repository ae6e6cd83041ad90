"""What is asked of each row where no column holds the whole question."""

from __future__ import annotations

from pathlib import Path

from finetune_assets_tests.onboarding.beginning import begun, photos, table


def test_a_yes_or_no_is_asked_about_by_its_column(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(60)]
    photos(tmp_path, *names)
    rows = [{"file": name, "healthy": n % 3 // 2, "rust": n % 2} for n, name in enumerate(names)]
    task, _ = begun(table(tmp_path / "leaves.csv", rows))
    assert task.source.model_dump()["question"] == 'Is "healthy" true of this image?'
    rows = [{"age": n // 2, "outcome": n % 2} for n in range(60)]
    task, _ = begun(table(tmp_path / "ages.csv", rows), "answer=outcome")
    assert task.source.model_dump()["question"] == 'age: {age}. Is "outcome" true?'


def test_two_sentences_that_are_compared_are_asked_together(tmp_path: Path) -> None:
    rows = [
        {"sentence1": f"It rains {n}.", "sentence2": f"It is wet {n}.", "gold_label": ("yes", "no", "open")[n % 3]}
        for n in range(60)
    ]
    task, _ = begun(table(tmp_path / "pairs.csv", rows))
    assert task.source.model_dump()["question"] == "sentence1: {sentence1}\nsentence2: {sentence2}"


def test_questions_that_hold_their_own_answer_are_warned_of(tmp_path: Path) -> None:
    words = [("cat", "dog", "bird")[n * 7 % 3] for n in range(60)]
    rows = [{"question": f"The label of {n} is {word}. What is it?", "label": word} for n, word in enumerate(words)]
    _, shown = begun(table(tmp_path / "pets.csv", rows))
    assert "Warning: 60 of 60 questions hold their own right answer, such as 'The label of 0 is cat." in shown
