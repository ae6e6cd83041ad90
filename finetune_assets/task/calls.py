"""Answers that call a function: the functions that a task's model may call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from finetune_assets.task.strict import Strict, Text

FunctionName = Annotated[Text, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Tool(Strict):
    """A function that may be called, as models are told of it."""

    name: FunctionName
    """What it is called by."""
    description: str = ""
    """What it does, for the model."""
    parameters: dict[str, Any] = Field(
        default={"type": "object", "properties": {}}, description="A JSON schema of the type object."
    )

    @model_validator(mode="after")
    def _takes_an_object(self) -> Tool:
        schema = self.parameters
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if schema.get("type") != "object" or not isinstance(properties, dict) or not isinstance(required, list):
            raise ValueError(f'parameters of {self.name} must be a JSON schema with "type: object" and properties')
        if unknown := [name for name in required if name not in properties]:
            raise ValueError(f"parameters of {self.name} require {unknown[0]!r}, which is none of its properties")
        return self


class CallAnswer(Strict):
    """One call of a function: its name, and arguments that keep to its schema."""

    kind: Literal["call"]
    tools: list[Tool] = Field(min_length=1, max_length=128, description="All functions that may be called.")
    max_tokens: int = Field(default=256, ge=1, le=4096, description="Room a model gets for its call.")

    @property
    def declared(self) -> list[dict[str, Any]]:
        """The functions in OpenAI's format."""
        return [
            {"type": "function", "function": tool.model_dump(exclude={"description"} if not tool.description else None)}
            for tool in self.tools
        ]

    @model_validator(mode="after")
    def _told_apart(self) -> CallAnswer:
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError(f"tools must have names of their own, got {', '.join(names)}")
        return self
