"""What every calibrator is: fitted on one model's answers, refused to another's, and kept as JSON."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Self

from finetune_assets.errors import EvaluationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The common part of calibrators; each adds its own numbers and what they are applied to."""

    method: ClassVar[str]
    """Its name in JSON."""
    kind: str
    """Of the answers whose scores or numbers it calibrates."""
    model: str
    fingerprint: str
    """SHA-256 of what it was fitted on."""
    n: int
    """Examples of the calibration split that it was fitted on."""
    warning: str | None = None
    """Why it is of little use, or None."""

    def require(self, model: str | None) -> None:
        """Refuse another model than the one it was fitted on; None is a caller who does not know.

        Raises:
            EvaluationError: another model.
        """
        if model not in (None, self.model):
            raise EvaluationError(
                f"this calibrator was fitted on answers of {self.model!r} and says nothing about those of {model!r}: "
                "fit one on that model's calibration split"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON; `from_dict` makes an equal calibrator of that."""
        return {"method": self.method, **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            EvaluationError: another method, or fields missing or unknown.
        """
        found = {key: value for key, value in data.items() if key != "method"}
        required = {field.name for field in fields(cls) if field.default is MISSING}
        if data.get("method") != cls.method or not required <= set(found) <= {field.name for field in fields(cls)}:
            raise EvaluationError(
                f"expected a {cls.method} calibrator, got method {data.get('method')!r} with the fields "
                f"{sorted(found)}: materialise the calibrator again"
            )
        return cls(**found)
