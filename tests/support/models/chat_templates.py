"""Chat templates in the manner of known models, as far as calls are concerned."""

_ENDING = "{% if add_generation_prompt %}<assistant>{% endif %}"

QWEN2 = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for message in messages %}"
    "{% if message.role == 'assistant' and message.tool_calls %}<assistant>{{ message.content }}"
    "{% for tool_call in message.tool_calls %}{% if tool_call.function %}{% set tool_call = tool_call.function %}"
    '{% endif %}<tool_call>{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}'
    "</tool_call>{% endfor %}"
    "{% elif message.role == 'tool' %}<tool_response>{{ message.content }}</tool_response>"
    "{% else %}<{{ message.role }}>{{ message.content }}{% endif %}{% endfor %}" + _ENDING
)
"""Several calls; arguments of any type."""

QWEN3_CODER = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content | trim }}"
    "{% for tool_call in message.tool_calls %}<function={{ tool_call.function.name }}>"
    "{% for name, value in tool_call.function.arguments | items %}<parameter={{ name }}>{{ value }}</parameter>"
    "{% endfor %}</function>{% endfor %}{% endfor %}" + _ENDING
)
"""Arguments are objects. Texts are stripped."""

LLAMA3 = (
    "{% if tools %}{% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}"
    'Respond in the format {"name": function name, "parameters": dictionary}. {% endif %}'
    "{% for message in messages %}"
    "{% if 'tool_calls' in message %}"
    "{% if not message.tool_calls | length == 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{% set tool_call = message.tool_calls[0].function %}"
    '<assistant>{"name": "{{ tool_call.name }}", "parameters": {{ tool_call.arguments | tojson }}}<|eot_id|>'
    "{% elif message.role == 'tool' %}<ipython>{{ message.content | tojson }}<|eot_id|>"
    "{% else %}<{{ message.role }}>{{ message.content }}<|eot_id|>{% endif %}{% endfor %}" + _ENDING
)
"""One call in a message."""

MISTRAL = (
    "{% if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for message in messages %}"
    "{% if message.tool_calls is defined %}[TOOL_CALLS] [{% for tool_call in message.tool_calls %}"
    "{% if tool_call.id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}"
    '{{ tool_call.function | tojson }} "id": "{{ tool_call.id }}"{{ ", " if not loop.last }}{% endfor %}]'
    "{% elif message.role == 'tool' %}"
    "{% if message.tool_call_id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}"
    '[TOOL_RESULTS] {"content": {{ message.content }}, "call_id": "{{ message.tool_call_id }}"}[/TOOL_RESULTS]'
    "{% else %}<{{ message.role }}>{{ message.content }}{% endif %}{% endfor %}" + _ENDING
)
"""Ids have nine characters."""

DEEPSEEK = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'assistant' and message.tool_calls %}"
    "{% for tool in message.tool_calls %}"
    "{{ '<call>' + tool['function']['name'] + '\n```json\n' + tool['function']['arguments'] + '\n```</call>' }}"
    "{% endfor %}{% elif message.role == 'tool' %}<output>{{ message.content }}</output>"
    "{% else %}<{{ message.role }}>{{ message.content }}{% endif %}{% endfor %}" + _ENDING
)
"""Arguments are text."""

BROKEN = "{% if tools %}{{ tools.nothing.at_all }}{% endif %}{{ messages[0].content }}"
"""Renders no tools."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Knows no tools."""
