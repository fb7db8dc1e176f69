"""Closed loops of cold prompts at rising concurrency: every side in turn, round by round, asked the same."""

from contextlib import ExitStack
from typing import Any

from benchmarks.serving.client import ChatClient, Completion, closed_loop, run
from benchmarks.serving.figures import Figures, first_error, medians, of_answers, ratios, report
from benchmarks.serving.prompts import Messages, listings
from benchmarks.serving.setting import Setting
from benchmarks.serving.sides import Shape

PROMPT_WORDS = 100
ANSWER_TOKENS = 64
REQUESTS = {1: 4, 4: 12, 16: 32, 32: 48}
QUICK_REQUESTS = {1: 2, 4: 4, 16: 16, 32: 32}
SHAPE = Shape(slots=32, max_len=512)
"""By default."""


def measure(setting: Setting) -> None:
    """Print one line per concurrency."""
    requests = QUICK_REQUESTS if setting.quick else REQUESTS
    with ExitStack() as stack:
        clients = {side.name: stack.enter_context(side.serving(setting.shape)) for side in setting.servers}
        for client in clients.values():
            _ask(client, listings("warm up", 2, PROMPT_WORDS), 2)
        if setting.openvino:
            setting.openvino.run(listings("warm up", 2, PROMPT_WORDS), concurrency=2, max_tokens=4)
        for concurrency, count in requests.items():
            rounds: dict[str, list[Figures]] = {}
            errors: dict[str, str] = {}
            for turn in range(setting.rounds):
                prompts = listings(f"{concurrency} {turn}", count, PROMPT_WORDS)
                answers = {name: _ask(client, prompts, concurrency) for name, client in clients.items()}
                if setting.openvino:
                    answers["openvino"] = setting.openvino.run(
                        prompts, concurrency=concurrency, max_tokens=ANSWER_TOKENS
                    )
                for name, each in answers.items():
                    rounds.setdefault(name, []).append(of_answers(each))
                    if error := first_error(each):
                        errors[name] = error
                rounds.setdefault("bound", []).append(_bound(setting, answers["llmos"], count, concurrency))
            _report(concurrency, count, rounds, errors)


def _ask(client: ChatClient, prompts: list[Messages], concurrency: int) -> list[Completion]:
    return run(closed_loop(client, prompts, concurrency=concurrency, max_tokens=ANSWER_TOKENS))


def _bound(setting: Setting, answers: list[Completion], requests: int, concurrency: int) -> Figures:
    tokens = int(of_answers(answers).get("prompt_tokens", PROMPT_WORDS))
    return setting.bound.run(
        requests=requests, concurrency=concurrency, prompt_tokens=tokens, max_tokens=ANSWER_TOKENS
    )


def _report(concurrency: int, requests: int, rounds: dict[str, list[Figures]], errors: dict[str, str]) -> None:
    facts: dict[str, Any] = {name: medians(figures) for name, figures in rounds.items()}
    for name in rounds.keys() - {"llmos"}:
        facts[f"ratio_{name}"] = ratios(rounds["llmos"], rounds[name])
    if errors:
        facts["errors"] = errors
    report(
        "throughput",
        concurrency=concurrency,
        requests=requests,
        rounds=len(rounds["llmos"]),
        prompt_words=PROMPT_WORDS,
        answer_tokens=ANSWER_TOKENS,
        **facts,
    )
