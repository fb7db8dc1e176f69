"""Chat templates in the manner of each family: how it begins, names roles, ends turns and rewrites history."""

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""SmolLM2: a system prompt of its own where there is none."""

LLAMA3 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
"""It writes the token that begins a text, trims, and ends a turn with another token than a text."""

MISTRAL = """{{ bos_token }}{% for message in messages %}
{%- if message.role == 'user' %}[INST] {{ message.content }} [/INST]
{%- elif message.role == 'assistant' %} {{ message.content }}{{ eos_token }}
{%- elif not loop.first %}{{ raise_exception('only the first message may be of the system') }}
{%- endif %}{% endfor %}"""
"""No sign of where an answer begins; the system's message is dropped here, to keep this short."""

GEMMA = """{{ bos_token }}
{%- set first = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages %}
{%- for message in rest %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {{- (first if loop.first else '') + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
"""The system's message goes into the first of the user; the assistant is called model; roles must alternate."""

QWEN = """{%- if tools %}<|im_start|>system
{%- if messages[0].role == 'system' %}
{{ messages[0].content }}{% endif %}
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools> Write calls as <tool_call>{"name": <function-name>, "arguments": <args-json-object>}</tool_call><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages if message.role != 'system' %}
{%- set content = message.content.split('</think>')[-1] | trim if message.role == 'assistant' else message.content %}
{{- '<|im_start|>' + ('user' if message.role == 'tool' else message.role) + '\\n' + content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""Qwen3: it renders tools, and drops the thoughts of earlier answers."""

DEVELOPER = CHATML.replace("'system' %}", "'system' and messages[0].role != 'developer' %}")
"""A template that knows the role `developer`."""

TEMPLATES = {
    "smollm2": CHATML,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
    "gemma3": GEMMA,
    "qwen3": QWEN,
    "developer": DEVELOPER,
}
ENDS = {
    "smollm2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "mistral": "</s>",
    "gemma3": "<end_of_turn>",
    "qwen3": "<|im_end|>",
    "developer": "<|im_end|>",
}
"""The token that ends an answer."""
EOS = {"llama3": "<|end_of_text|>", "mistral": "</s>", "gemma3": "<eos>"}
"""The token that ends a text, where it is not `<|im_end|>`."""
