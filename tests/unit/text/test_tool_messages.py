"""Tools in prompts: as the template renders them, or in plain messages."""

import json

from shared.contracts.replica import ChatMessage, Tool, ToolCall
from shared.text.template import ChatTemplate
from shared.text.tool_form import takes_tools
from shared.text.tool_messages import native_messages, plain_messages, tool_object

TOOL = Tool(name="f", description="does", parameters='{"type": "object", "properties": {"z": {}, "a": {}}}')
HELLO = ChatMessage(role="user", content="hi")
CALLS = ChatMessage(
    role="assistant",
    tool_calls=(ToolCall(id="1", name="f", arguments='{"z": 1}'), ToolCall(id="2", name="f", arguments="{}")),
)
RESULTS = [ChatMessage(role="tool", content=text, tool_call_id=text) for text in ("1", "2")]


def test_a_plain_template_gets_tools_in_the_system_message():
    first, hello = plain_messages([HELLO], [TOOL])
    assert first["role"] == "system"
    assert json.dumps(tool_object(TOOL)) in first["content"]
    assert hello == {"role": "user", "content": "hi"}
    (system, _) = plain_messages([ChatMessage(role="system", content="Be brief."), HELLO], [TOOL])
    assert system["content"].startswith("Be brief.\n\n# Tools")


def test_a_plain_template_gets_calls_and_results_as_text():
    plain = plain_messages([HELLO, CALLS, *RESULTS, HELLO], [])
    assert [message["role"] for message in plain] == ["user", "assistant", "user", "user"]
    assert plain[1]["content"] == (
        '<tool_call>\n{"name": "f", "arguments": {"z": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    )
    assert plain[2]["content"] == ("<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>")


def test_messages_without_tools_stay_as_they_are():
    named = ChatMessage(role="user", content="x", name="ann")
    assert plain_messages([named], []) == [{"role": "user", "content": "x", "name": "ann"}]
    assert native_messages([named]) == [{"role": "user", "content": "x", "name": "ann"}]


def test_a_template_that_knows_tools_gets_objects():
    source = (
        "{% if tools is not none %}{{ tools[0].function.parameters | tojson }};{% endif %}"
        "{% for m in messages %}{{ m.role }}"
        "{% if 'tool_calls' in m %}{% for c in m.tool_calls %} {{ c.function.name }}"
        "{{ c.function.arguments | tojson }}{% endfor %}{% endif %}"
        "{% if m.tool_call_id %} {{ m.tool_call_id }}={{ m.content }}{% endif %};{% endfor %}"
    )
    assert takes_tools(source)
    template = ChatTemplate(source)
    messages = native_messages([HELLO, CALLS, RESULTS[0]])
    rendered = template.render(messages, [tool_object(TOOL)])
    assert rendered == f'{TOOL.parameters};user;assistant f{{"z": 1}} f{{}};tool 1=1;'
    assert template.render(messages[:1]) == "user;"


def test_a_template_that_only_speaks_of_others_takes_no_tools():
    assert not takes_tools("{{ messages }} toolset")
    assert not takes_tools(None)
