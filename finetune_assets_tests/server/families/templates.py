"""Chat templates in the form that makers publish them, where TRL ships none: what stands between turns is theirs."""

from __future__ import annotations

MISTRAL_1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_3 = (
    "{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] %}{%- set turns = messages[1:] %}"
    "{%- else %}{%- set turns = messages %}{%- endif %}{{- bos_token }}{%- for m in turns %}"
    "{%- if m['role'] == 'user' %}{%- if tools is not none and tools and loop.last %}"
    "{{- '[AVAILABLE_TOOLS] ' ~ (tools | tojson) ~ '[/AVAILABLE_TOOLS]' }}{%- endif %}"
    "{%- if loop.last and told is defined %}{{- '[INST] ' ~ told ~ '\n\n' ~ m['content'] ~ '[/INST]' }}{%- else %}"
    "{{- '[INST] ' ~ m['content'] ~ '[/INST]' }}{%- endif %}{%- elif m['role'] == 'assistant' %}"
    "{{- ' ' ~ (m['content'] | trim) ~ eos_token }}{%- else %}{{- raise_exception('Only user and assistant') }}"
    "{%- endif %}{%- endfor %}"
)
MISTRAL_SMALL = (
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] %}"
    "{%- set turns = messages[1:] %}{%- else %}{%- set told = 'You are Mistral Small 3.' %}{%- set turns = messages %}"
    "{%- endif %}{{- '[SYSTEM_PROMPT]' ~ told ~ '[/SYSTEM_PROMPT]' }}{%- for m in turns %}{%- if m['role'] == 'user' %}"
    "{{- '[INST]' ~ m['content'] ~ '[/INST]' }}{%- elif m['role'] == 'assistant' %}{{- m['content'] ~ eos_token }}"
    "{%- endif %}{%- endfor %}"
)
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
PHI_4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
GRANITE = (
    "{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] %}{%- set turns = messages[1:] %}"
    "{%- else %}{%- set told = 'Knowledge Cutoff Date: April 2024.\nYou are Granite.' %}{%- set turns = messages %}"
    "{%- endif %}{{- '<|start_of_role|>system<|end_of_role|>' + told + '<|end_of_text|>\n' }}{%- for m in turns %}"
    "{{- '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] + '<|end_of_text|>\n' }}"
    "{%- if loop.last and add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
    "{%- endfor %}"
)
OLMO = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|assistant|>\n' + m['content'] }}"
    "{{ eos_token if loop.last else eos_token + '\n' }}{% else %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}"
    "{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
SMOLLM_3 = (
    "{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}"
    "{%- set mode = '/think' if enable_thinking else '/no_think' %}"
    "{{- '<|im_start|>system\n## Metadata\n\nReasoning Mode: ' + mode + '\n\n## Custom Instructions\n\n' }}"
    "{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- endif %}{{- '<|im_end|>\n' }}"
    "{%- for m in messages %}{%- if m['role'] == 'user' %}{{ '<|im_start|>user\n' + m['content'] + '<|im_end|>\n' }}"
    "{%- elif m['role'] == 'assistant' %}{%- if mode == '/think' %}"
    "{{ '<|im_start|>assistant\n' + m['content'].lstrip('\n') + '<|im_end|>\n' }}{%- else %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n' + m['content'].lstrip('\n') + '<|im_end|>\n' }}{%- endif %}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{%- if mode == '/think' %}{{ '<|im_start|>assistant\n' }}"
    "{%- else %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n' }}{%- endif %}{%- endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set told = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set told = false %}{% endif %}{% for m in turns %}"
    "{% if loop.index0 == 0 and told %}{% set said = '<<SYS>>\n' + told + '\n<</SYS>>\n\n' + m['content'] %}"
    "{% else %}{% set said = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + said.strip() + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
    "{{ ' ' + said.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
PIXTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{% if m['content'] is string %}"
    "{{ m['content'] }}{% else %}{% for part in m['content'] %}{% if part['type'] == 'image' %}[IMG]{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}[/INST]{% else %}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{{ m['content'][0]['text'] }}{% endif %}"
    "{{ eos_token }}{% endif %}{% endfor %}"
)
LLAVA_ONEVISION = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' }}{% for part in m['content'] | "
    "selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}{% if m['role'] != 'assistant' %}"
    "{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + part['text'] }}{% endfor %}"
    "{% else %}{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}"
    "{{ '\n' + part['text'] }}{% endgeneration %}{% endfor %}{% endif %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INTERNVL = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'video' %}{{ '<video>\n' }}{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MLLAMA = (
    "{{- bos_token }}{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}{%- if m['content'] is string %}"
    "{{- m['content'] }}{%- else %}{%- for part in m['content'] %}{%- if part['type'] == 'image' %}{{- '<|image|>' }}"
    "{%- elif part['type'] == 'text' %}{{- part['text'] }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
IDEFICS_2 = (
    "{% for m in messages %}{{ m['role'].capitalize() }}{% if m['content'][0]['type'] == 'image' %}{{ ':' }}"
    "{% else %}{{ ': ' }}{% endif %}{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
GLM_4V = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{% if part['type'] == 'image' %}"
    "<|begin_of_image|><|image|><|end_of_image|>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
PALIGEMMA = (
    "{% for m in messages %}{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}"
    "{% endfor %}{% endfor %}{% for m in messages %}{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}\n{% endif %}{% endfor %}{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
)
"""None is published: PaliGemma's checkpoints are asked by short commands and come without a template."""
LLAMA_4 = (
    "{{- bos_token }}{%- for m in messages %}{{- '<|header_start|>' + m['role'] + '<|header_end|>\n\n' }}"
    "{%- if m['content'] is string %}{{- m['content'] }}{%- else %}{%- for part in m['content'] %}"
    "{%- if part['type'] == 'image' %}{{- '<|image|>' }}{%- elif part['type'] == 'text' %}{{- part['text'] }}"
    "{%- endif %}{%- endfor %}{%- endif %}{{- '<|eot|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|header_start|>assistant<|header_end|>\n\n' }}{%- endif %}"
)
KIMI = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<|media_begin|>image<|media_content|><|media_pad|>"
    "<|media_end|>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
