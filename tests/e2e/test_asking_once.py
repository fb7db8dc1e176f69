"""`llmos chat NAME TEXT`: one question, from the command line or a pipe, for people and for scripts."""

import re

import openai
import pytest

from llmos.cli.stream import Speed
from llmos.client import Client
from shared.errors import NotFound
from tests.support.harness.embedded import BRIEF

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

QUESTION = "What is the capital of France?"
EXACT = ("--system", BRIEF, "--temperature", "0", "--max-tokens", "24")


@pytest.fixture(scope="module")
def answer(demo) -> str:
    """What the model says to the question."""
    return demo.ask(QUESTION)


def test_text_is_asked_and_standard_output_has_the_answer_alone(demo, answer):
    done = demo.cli("chat", "smollm2", QUESTION, *EXACT)
    assert (done.returncode, done.stdout) == (0, answer + "\n")
    assert re.fullmatch(r"8 tokens( · [\d.]+ tokens/s)? · first after [\d.]+ s · trace [0-9a-f]{32}\n", done.stderr)


def test_piped_text_is_asked_whole(demo, answer):
    assert demo.cli("chat", "smollm2", *EXACT, stdin=f"{QUESTION}\n").stdout == answer + "\n"
    lines = demo.cli("chat", "smollm2", *EXACT, stdin="What is the capital\n\nof France?\n")
    assert lines.returncode == 0
    assert lines.stderr.count("trace") == 1


def test_piped_text_stands_before_the_text_given_and_a_message_leaves_it_unread(demo, answer):
    both = demo.cli("chat", "smollm2", QUESTION, *EXACT, stdin="A question about Europe:")
    with Client(demo.url, demo.key) as client:
        asked = [
            {"role": "system", "content": BRIEF},
            {"role": "user", "content": f"A question about Europe:\n\n{QUESTION}"},
        ]
        expected = "".join(delta.text for delta in client.chat("smollm2", asked, temperature=0, max_tokens=24))
    assert both.stdout == expected + "\n"
    assert demo.cli("chat", "smollm2", "-m", QUESTION, *EXACT, stdin="Never read.").stdout == answer + "\n"


def test_a_question_that_fails_is_exit_code_1_and_nothing_on_standard_output(demo):
    done = demo.cli("chat", "nosuch", "hi")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the model 'nosuch' does not exist")
    empty = demo.cli("chat", "smollm2", stdin="\n")
    assert (empty.returncode, empty.stdout) == (1, "")


def test_a_single_token_has_no_speed(demo):
    done = demo.cli("chat", "smollm2", QUESTION, "--max-tokens", "1")
    assert re.fullmatch(r"1 token · first after [\d.]+ s · trace [0-9a-f]{32}\n", done.stderr)


def test_tokens_are_counted_as_the_usage_counts_them_also_those_of_drafts(demo):
    text = "one two three four one two three four one two three four one two three"
    speed, pieces = Speed(0.0), 0
    with Client(demo.url, demo.key) as client:
        counted = 0
        for number, delta in enumerate(client.complete("smollm2", text, temperature=0, max_tokens=64)):
            speed.add(delta, float(number))
            counted += delta.tokens
            pieces += bool(delta.tokens)
    assert counted == speed.total == 64
    assert pieces < 64, "no draft was accepted: the text tests nothing"
    assert speed.first is not None
    after, seconds = 64 - speed.at_first, speed.last - speed.first
    assert f"{after / seconds:.1f} tokens/s" in str(speed)


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b", "a\x85b"], ids=ascii)
def test_line_separators_of_unicode_end_no_event(demo, text):
    with Client(demo.url, demo.key) as client:
        asked = [{"role": "user", "content": "x"}]
        assert "".join(delta.text for delta in client.chat("smollm2", asked, guided_choice=[text])) == text
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=demo.key) as other:
        stream = other.chat.completions.create(
            model="smollm2", messages=asked, stream=True, extra_body={"guided_choice": [text]}
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def test_the_client_never_leaves_its_own_route(demo):
    with Client(demo.url, demo.key) as client:
        with pytest.raises(NotFound, match=r"there is no deployment '../models/smollm2'"):
            client.undeploy("../models/smollm2")
        assert client.models.version("smollm2").version == 1
