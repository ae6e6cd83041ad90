"""The chat template of the bundled models, which their makers left without tools: with them, in the form of Hermes.

A conversation without tools is written as before. With them, the system message goes on with the functions, one a line,
a call is `<tool_call>` with a JSON object of `name` and `arguments` in it, and what tools say is shown to the model as
`<tool_response>` of the user. Qwen2.5 and Qwen3 have the same form.
"""

from __future__ import annotations

_ASKS = """\
{%- set ns = namespace(tools=tools) -%}
{%- for message in messages -%}
{%- if message.tool_calls or message.role == 'tool' %}{% set ns.tools = true %}{% endif -%}
{%- endfor -%}
{%- if ns.tools -%}
"""
_WITH_TOOLS = """\
{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}
{%- else %}{% set system = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face' %}{% endif -%}
{{ '<|im_start|>system\\n' + system }}
{%- if tools -%}
{{ '\\n\\nYou may call these functions, each described by a JSON object:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + (tool.function | tojson) }}{% endfor -%}
{{ '\\n</tools>\\nA call is written as:\\n<tool_call>\\n{"name": NAME, "arguments": OBJECT}\\n</tool_call>' }}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif -%}
{{ '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif -%}
{%- elif not (loop.first and message.role == 'system') -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] -%}
{{ '\\n' if message.content or not loop.first }}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


def with_tools(template: str) -> str:
    """The template of the bundled language model, extended."""
    return f"{_ASKS}{_WITH_TOOLS}{{%- else -%}}\n{template}{{%- endif -%}}"
