"""A conversation of ten turns: what the first token of each costs, with a prefix cache and without."""

import random

from benchmarks.serving.client import ChatClient, Completion, run
from benchmarks.serving.figures import Figures, first_error, medians, milliseconds, ratios, report
from benchmarks.serving.prompts import Messages, words
from benchmarks.serving.setting import Setting
from benchmarks.serving.sides import Shape

TURNS = 10
QUESTION_WORDS = 60
ANSWER_TOKENS = 32


def measure(setting: Setting) -> None:
    """Print one line per side and kind of cache."""
    rounds = 1 if setting.quick else setting.rounds
    for cached in (True, False):
        figures: dict[str, list[Figures]] = {}
        for side in setting.servers:
            with side.serving(Shape(slots=4, max_len=2048, prefix_cache=cached)) as client:
                run(_talk(client, random.Random("warm up"), 1))
                for turn in range(rounds):
                    rng = random.Random(f"{cached} {turn}")
                    answers = run(_talk(client, rng, TURNS))
                    if error := first_error(answers):
                        report("conversation", side=side.name, prefix_cache=cached, error=error)
                        break
                    figures.setdefault(side.name, []).append(_of(answers))
        for name, each in figures.items():
            versus = (
                {f"ratio_{name}": ratios(figures["llmos"], each)} if name != "llmos" and "llmos" in figures else {}
            )
            report("conversation", side=name, prefix_cache=cached, rounds=len(each), **medians(each), **versus)


async def _talk(client: ChatClient, rng: random.Random, turns: int) -> list[Completion]:
    """Each turn holds all before it."""
    messages: Messages = []
    answers = []
    for _ in range(turns):
        messages.append({"role": "user", "content": f"Tell me more about these: {words(rng, QUESTION_WORDS)}"})
        answer = await client.chat(messages, max_tokens=ANSWER_TOKENS)
        answers.append(answer)
        if not answer.ok:
            break
        messages.append({"role": "assistant", "content": answer.text})
    return answers


def _of(answers: list[Completion]) -> Figures:
    first, last = answers[0], answers[-1]
    return {
        "ttft_turn_1_ms": milliseconds(first.ttft),
        "ttft_turn_10_ms": milliseconds(last.ttft),
        "turn_10_to_turn_1": round(last.ttft / first.ttft, 3),
        "prompt_tokens_turn_1": float(first.prompt_tokens),
        "prompt_tokens_turn_10": float(last.prompt_tokens),
        "cached_tokens_turn_10": float(last.cached_tokens),
    }
