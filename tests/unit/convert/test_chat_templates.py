"""A template that no replica can use is refused before the model is imported."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from devtools.convert import convert_gguf
from devtools.convert.chat_template import check_chat_template
from shared.errors import UnsupportedFormat
from tests.support.models.llama_files import write_llama

USABLE = {
    "special tokens": "{{ bos_token }}{{ messages[0].content + eos_token + pad_token }}",
    "needs a system message": "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}x",
    "knows no system message": "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}x",
    "dates and documents": "{{ strftime_now('%d %b %Y') }}{% if documents %}{{ documents[0] }}{% endif %}",
    "loop controls": "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{% continue %}{% endfor %}",
    "training marks": "{% generation %}{{ messages[0].content }}{% endgeneration %}",
}
UNUSABLE = {
    "does not parse": ("{% if messages %}", "does not compile"),
    "unknown tag": ("{% call_me %}", "does not compile"),
    "unknown filter": ("{{ messages | shout }}", "does not compile"),
    "unknown function": ("{{ today() }}", "'today' is undefined"),
    "unknown name": ("{{ 'x' + house_token }}", "'house_token' is undefined"),
    "refuses every conversation": ("{{ raise_exception('never') }}", "refuses these messages: never"),
    "wrong values": ("{{ messages[0].content[0].text.nothing }}", "fails on these messages"),
    "never ends": ("{{ 3 ** (10 ** 9) }}", "was stopped"),
}


@pytest.mark.parametrize("source", USABLE.values(), ids=USABLE)
def test_a_template_that_renders_some_conversation_is_taken(source: str) -> None:
    with capture_logs() as logs:
        check_chat_template(source, {"bos_token": "<s>"})
    assert [entry for entry in logs if entry["log_level"] == "warning"] == []


@pytest.mark.parametrize(("source", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_template_that_no_replica_can_use_is_refused_in_one_line(source: str, reason: str) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        check_chat_template(source, {})
    assert reason in caught.value.message
    assert "chat_template.jinja" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_template_that_fails_with_tools_only_is_a_warning() -> None:
    with capture_logs() as logs:
        check_chat_template("{% if tools %}{{ as_typescript(tools) }}{% endif %}x", {})
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["event"] == "template.rejects_tools"
    assert "as_typescript" in warning["error"]


def test_a_template_that_fails_without_tools_only_is_a_warning() -> None:
    with capture_logs() as logs:
        check_chat_template("{% for tool in tools %}{{ tool.function | tojson }}{% endfor %}", {})
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["event"] == "template.requires_tools"


def test_a_template_that_fails_with_tools_and_without_is_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="'today' is undefined"):
        check_chat_template("{{ today() }}{{ tools }}", {})


def test_an_import_in_an_event_loop_checks_too(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "model.gguf", metadata={"tokenizer.chat_template": "{{ in_a_loop() }}"})

    async def convert() -> None:
        convert_gguf(source, tmp_path / "out")

    with pytest.raises(UnsupportedFormat, match="in_a_loop"):
        asyncio.run(convert())
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
