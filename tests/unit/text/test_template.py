"""Chat templates: Hugging Face's conventions, and no way to hurt the replica."""

import asyncio
import os
import signal
import time
from datetime import datetime

import pytest

from shared.errors import InvalidInput
from shared.text.template import MAX_PROMPT, ChatTemplate
from shared.text.template_process import TemplateProcess

HELLO = [{"role": "user", "content": "Hello"}]
CHATML = """{% for message in messages %}
    {% if message['role'] != 'nobody' %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""
HOSTILE = {
    "long loop": "{% for i in range(10**9) %}x{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "long text": "{{ 'a' * 10**9 }}",
    "long list": "{{ [0] * 10**9 }}",
    "padded text": "{{ 'x' | center(10**9) }}",
    "format width": "{{ '%1000000000d' | format(1) }}",
    "large power": "{{ 3 ** (10 ** (messages | length + 8)) }}",
    "long output": "{% for i in range(99999) %}{{ 'a' * 10000 }}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}


def render(source, messages=HELLO, **tokens):
    return ChatTemplate(source, **tokens).render(messages)


def test_chatml_renders_up_to_the_assistants_answer():
    assert render(CHATML) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_bos_and_eos_tokens_are_known():
    assert render("{{ bos_token }}|{{ eos_token }}", bos_token="<s>", eos_token="</s>") == "<s>|</s>"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ 'a' + pad_token }}", "a<pad>"),
        ("{{ 'a' + unk_token + sep_token + cls_token + mask_token }}", "a"),
        ("{{ documents is none }}", "True"),
    ],
)
def test_a_template_knows_what_transformers_passes(source, expected):
    assert render(source, pad_token="<pad>") == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", '{"b": [1, "ü"], "a": {"c": null}}'),
        ("ensure_ascii=true", '{"b": [1, "\\u00fc"], "a": {"c": null}}'),
        ("separators=(',', ':')", '{"b":[1,"ü"],"a":{"c":null}}'),
        ("sort_keys=true", '{"a": {"c": null}, "b": [1, "ü"]}'),
        ("indent=1, sort_keys=true", '{\n "a": {\n  "c": null\n },\n "b": [\n  1,\n  "ü"\n ]\n}'),
        (
            "indent='\t', separators=(',', ': ')",
            '{\n\t"b": [\n\t\t1,\n\t\t"ü"\n\t],\n\t"a": {\n\t\t"c": null\n\t}\n}',
        ),
        ("false, none, (',', ':'), true", '{"a":{"c":null},"b":[1,"ü"]}'),
    ],
)
def test_tojson_has_the_arguments_that_it_has_in_transformers(arguments, expected):
    assert render(f"{{{{ messages[0] | tojson({arguments}) }}}}", [{"b": [1, "ü"], "a": {"c": None}}]) == expected


def test_json_is_not_escaped_for_html():
    assert render("{{ messages[0] | tojson }}", [{"content": "<ü> & '"}]) == '{"content": "<ü> & \'"}'


def test_the_date_can_be_asked_for():
    assert render("{{ strftime_now('%Y') }}") == str(datetime.now().astimezone().year)


def test_loop_controls_and_generation_blocks_are_known():
    source = "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert render(source + "{% generation %}x{% endgeneration %}") == "01x"


def test_a_template_can_refuse_messages():
    with pytest.raises(InvalidInput, match="roles must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.param == "messages"


@pytest.mark.parametrize("source", ["{% if %}", "{{ 1 +", "{% nonsense %}", "{{ x | nofilter }}"])
def test_a_template_that_does_not_compile_is_an_error_that_says_so(source):
    with pytest.raises(InvalidInput, match="does not compile"):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ messages[0].nothing.at_all }}",
        "{{ 1 / 0 }}",
    ],
)
def test_what_the_sandbox_forbids_or_what_fails_is_an_error_of_the_request(source):
    with pytest.raises(InvalidInput):
        render(source)


def test_a_prompt_above_the_limit_is_refused():
    with pytest.raises(InvalidInput, match=str(MAX_PROMPT)):
        render("{{ messages[0].content }}", [{"content": "a" * (MAX_PROMPT + 1)}])


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_template_is_stopped_and_harms_only_its_request(source):
    guarded = "{% if messages[0].content == 'go' %}" + source + "{% else %}fine{% endif %}"
    async with TemplateProcess(guarded, cpu_limit_s=0.3).running() as process:
        begun = time.monotonic()
        with pytest.raises(InvalidInput):
            await process.render([{"content": "go"}])
        assert time.monotonic() - begun < 30
        assert await process.render([{"content": "no"}]) == "fine"


async def test_prompts_render_in_the_worker_and_errors_keep_their_kind():
    async with TemplateProcess(CHATML + "{{ bos_token }}", {"bos_token": "é"}).running() as process:
        prompts = await asyncio.gather(*(process.render([{"role": "user", "content": str(i)}]) for i in range(20)))
        assert prompts == [f"<|im_start|>user\n{i}<|im_end|>\n<|im_start|>assistant\né" for i in range(20)]
        large = [{"role": "user", "content": "ü" * (MAX_PROMPT // 2)}]
        assert len(await process.render(large)) > MAX_PROMPT // 2
    async with TemplateProcess("{% if %}").running() as process:
        for _ in range(2):
            with pytest.raises(InvalidInput, match="does not compile"):
                await process.render(HELLO)


async def test_a_cancelled_rendering_does_not_answer_the_next_one():
    async with TemplateProcess("{{ messages[0].content }}").running() as process:
        first = asyncio.create_task(process.render([{"content": "a" * 1_000_000}]))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await process.render([{"content": "second"}]) == "second"


async def test_a_killed_worker_is_replaced():
    async with TemplateProcess("{{ messages[0].content }}").running() as process:
        await process.render(HELLO)
        os.kill(process._process.pid, signal.SIGKILL)
        assert await process.render(HELLO) == "Hello"


async def test_a_template_that_hangs_while_it_is_compiled_is_stopped():
    async with TemplateProcess("{{ 3 ** (10 ** 9) }}", cpu_limit_s=0.3).running() as process:
        with pytest.raises(InvalidInput, match="stopped"):
            await process.render(HELLO)


async def test_no_worker_stays_behind():
    async with TemplateProcess("x").running() as process:
        await process.render(HELLO)
        pid = process._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
