"""The rules for calls: that what is called is declared, with the arguments it takes, and that calls are answered.

As in the other rules, each appends `(code, message)` to `found`.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from finetune_assets.dataset.schema_rules import missing_properties, wrong_value
from finetune_assets.training_file.findings import Problem
from finetune_assets.training_file.messages import Call, Message
from finetune_assets.training_file.tools import Tools


def check_tool_turns(messages: Sequence[Message], tools: Tools, found: list[Problem], field: str = "messages") -> None:
    """Check the calls of well-formed messages.

    Each call is answered before the talk goes on, and each tool message answers a call.

    Args:
        messages: Of the example.
        tools: What it declares.
        found: What is wrong is appended.
        field: The name of the messages in what is told.
    """
    pending: dict[str | None, str] = {}
    for index, message in enumerate(messages):
        where = f"{field}[{index}]"
        if message.role in ("tool", "function"):
            _check_answer(message, pending, where, found)
            continue
        _report_unanswered(pending, found)
        ids = [call.id for call in message.calls if call.id is not None]
        pending = {_answered_by(call): f"{where}{_named(call)}" for call in message.calls}
        if len(set(ids)) < len(ids):
            found.append(("duplicate_tool_call_id", f"{where}.tool_calls has an id twice; give each call its own"))
        if tools.one_at_a_time and len(ids) > 1:
            told = f"{where} makes {len(ids)} calls at once, which parallel_tool_calls forbids; change either"
            found.append(("parallel_calls", told))
        for call in message.calls:
            _check_against(tools, call, where, found)


def _answered_by(call: Call) -> str:
    """What the message that answers a call repeats: its id or, in the older form, its name."""
    return call.name if call.id is None else call.id


def _named(call: Call) -> str:
    return f".function_call of {call.name!r}" if call.id is None else f".tool_calls id {call.id!r}"


def _check_answer(message: Message, pending: dict[str | None, str], where: str, found: list[Problem]) -> None:
    """Check that a tool message, or one of the older function messages, answers a pending call, and take that off."""
    is_tool = message.role == "tool"
    key, what, answered = ("tool_call_id", "id", message.call_id) if is_tool else ("name", "name", message.name)
    if pending.pop(answered, None) is None:
        detail = f"{where}.{key} {answered!r} answers no call before it"
        found.append(("unknown_tool_call_id", f"{detail}; repeat the {what} of the assistant's call"))


def _check_against(tools: Tools, call: Call, where: str, found: list[Problem]) -> None:
    """Check one call against the declarations."""
    if call.name not in tools.functions:
        found.append(("undeclared_function", f"{where} calls {call.name!r}, which tools does not declare; add it"))
        return
    given, parameters = orjson.loads(call.arguments), tools.functions[call.name].get("parameters", {})
    if missing := missing_properties(given, parameters):
        message = f"{where} calls {call.name!r} without {', '.join(missing)}, which its parameters require; add it"
        found.append(("missing_argument", message))
    elif (told := wrong_value(given, parameters)) is not None:
        what = f"{where} calls {call.name!r} with an argument that its parameters do not allow"
        found.append(("invalid_argument", f"{what}: {told}; correct either"))


def _report_unanswered(pending: dict[str | None, str], found: list[Problem]) -> None:
    for where in pending.values():
        message = f"{where} has no answer after it; add the message that gives it"
        found.append(("unanswered_tool_call", message))
