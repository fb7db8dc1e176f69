"""What speculative decoding gains: the same requests with draft tokens and without, by kind of task."""

from benchmarks.serving.client import ChatClient, Completion, closed_loop, run
from benchmarks.serving.figures import Figures, first_error, medians, of_answers, ratios, report
from benchmarks.serving.setting import Setting
from benchmarks.serving.sides import Shape
from benchmarks.serving.tasks import TASKS
from shared.contracts.serving import DRAFT_TOKENS

CONCURRENCY = (1, 4, 16)
MAX_TOKENS = 128
"""Answers end where the model ends them."""
SIDES = {"speculative": DRAFT_TOKENS, "plain": 0}


def measure(setting: Setting) -> None:
    """Print one line per kind of task and concurrency."""
    figures: dict[tuple[str, int], dict[str, list[Figures]]] = {}
    equal: dict[tuple[str, int], list[bool]] = {}
    shapes = {name: Shape(slots=16, max_len=1024, draft_tokens=tokens) for name, tokens in SIDES.items()}
    with setting.llmos.serving(shapes["speculative"]) as speculative, setting.llmos.serving(shapes["plain"]) as plain:
        clients = {"speculative": speculative, "plain": plain}
        for client in clients.values():
            _ask(client, "questions", 1)
        for _ in range(setting.rounds):
            for concurrency in CONCURRENCY:
                for kind in TASKS:
                    answers = {name: _ask(client, kind, concurrency) for name, client in clients.items()}
                    if error := first_error([*answers["speculative"], *answers["plain"]]):
                        report("speculative", task=kind, concurrency=concurrency, error=error)
                        return
                    for name, each in answers.items():
                        sides = figures.setdefault((kind, concurrency), {})
                        sides.setdefault(name, []).append(of_answers(each))
                    texts = [sorted(answer.text for answer in each) for each in answers.values()]
                    equal.setdefault((kind, concurrency), []).append(texts[0] == texts[1])
    for (kind, concurrency), sides in figures.items():
        report(
            "speculative",
            task=kind,
            concurrency=concurrency,
            rounds=len(sides["speculative"]),
            same_answers=all(equal[kind, concurrency]),
            **{name: medians(each) for name, each in sides.items()},
            ratio_plain=ratios(sides["speculative"], sides["plain"]),
        )


def _ask(client: ChatClient, kind: str, concurrency: int) -> list[Completion]:
    prompts = list(TASKS[kind]) * max(1, 2 * concurrency // len(TASKS[kind]))
    return run(closed_loop(client, prompts, concurrency=concurrency, max_tokens=MAX_TOKENS, ignore_eos=False))
