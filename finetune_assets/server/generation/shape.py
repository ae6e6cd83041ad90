"""What the answers to a request may be, and how they are read: as the request asks for, in the form of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from llguidance import LLMatcher

from finetune_assets.server.generation import tagged_arguments
from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.answer_grammar import Calling, Function, answer_grammar
from finetune_assets.server.generation.answer_reader import AnswerReader
from finetune_assets.server.generation.constraints import Grammars
from finetune_assets.server.generation.requests import Delta, GenerationRequest
from finetune_assets.server.generation.tokens import TextStream
from finetune_assets.server.model.chat_template import PromptError
from finetune_assets.server.model.control_tokens import Signs
from finetune_assets.server.model.network import Network

_ANY_ARGUMENTS = {"type": "object"}


class AnswerShape:
    """Begins the answers of one model."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._lead, _end = network.template.around()
        self._signs = Signs(network.tokenizer, network.form.marks)
        self._form = network.form.written(self._signs.written)

    @cached_property
    def grammars(self) -> Grammars:
        """Made at the first use, which takes a second."""
        return Grammars(self._network.tokenizer, self._network.vocabulary, self._network.end_ids)

    def check(self, request: GenerationRequest) -> None:
        """Refuse what the model does not know.

        Raises:
            PromptError: it knows no tools or no reasoning, or not so much.
        """
        form, name = self._network.form, self._network.base.name
        if request.tools and form.calls is None:
            message = f"The model {name!r} cannot be given tools: its chat template {form.no_calls}. Ask another model."
            raise PromptError(message, "unsupported_parameter", "tools")
        if request.effort is not None and request.effort not in form.efforts:
            known = ", ".join(["none", *form.efforts])
            asked = f"The model {name!r} cannot reason with the effort {request.effort!r}"
            message = f"{asked}; its chat template knows {known}."
            raise PromptError(message, "unsupported_value", "reasoning_effort")

    def answer(
        self, request: GenerationRequest, index: int, limit: int, listen: Callable[[Delta], None] | None
    ) -> Answer:
        """Begin one of a request's answers.

        Raises:
            PromptError: a schema is wrong, or asks for something that cannot be enforced.
        """
        thinking, schema = request.effort is not None, request.json_schema
        if not request.tools and not thinking:
            matcher = None if schema is None else self.grammars.matcher(schema)
            return Answer(request, index, limit, TextStream(self._network.tokenizer, self._lead), matcher, listen)
        stream = TextStream(self._network.tokenizer, signs=self._signs.by_id)
        calling = request.calling or Calling()
        functions = {function.name: function.schema for function in calling.functions}
        reader = AnswerReader(self._form, calling=bool(functions), thinking=thinking, functions=functions)
        return Answer(request, index, limit, stream, self._matcher(request, calling), listen, reader)

    def _matcher(self, request: GenerationRequest, calling: Calling) -> LLMatcher | None:
        if not request.tools and request.json_schema is None:
            return None  # a thought, and then any text
        if request.json_schema is not None:
            self.grammars.matcher(request.json_schema)  # says what is wrong with it
        known = replace(calling, functions=tuple(map(self._enforceable, calling.functions)))
        thinking = request.effort is not None
        return self.grammars.of_answer(
            answer_grammar(self._network.form, self._signs, known, request.json_schema, thinking=thinking)
        )

    def _enforceable(self, function: Function) -> Function:
        calls = self._network.form.calls
        try:
            self.grammars.matcher(function.schema)
            if function.strict and calls and calls.tagged and (problem := tagged_arguments.unkept(function.schema)):
                raise PromptError(f"Invalid schema for response_format: {problem}", "invalid_json_schema")
        except PromptError as error:
            if not function.strict:
                return replace(function, schema=_ANY_ARGUMENTS)
            told = str(error).replace("response_format", f"the function {function.name!r}, which is strict")
            raise PromptError(told, "invalid_function_parameters", "tools") from error
        return function
