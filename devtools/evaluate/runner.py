"""Puts the items of suites to a model, many at a time; what was scored before is not asked again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from devtools.data.rows import Item
from devtools.evaluate.scorers.catalogue import scorer_of
from devtools.evaluate.scorers.scorer import Model, Scorer
from devtools.evaluate.suites import Suite
from devtools.evaluate.typos import with_typos
from shared.contracts.report import ItemScore
from shared.errors import ContextLengthExceeded, InvalidInput, PayloadTooLarge

AT_ONCE = 8
"""Items that are asked at a time: replicas compute them in one batch."""
Key = tuple[str, str, str]
"""Deployment's version, suite, item."""
OnScore = Callable[[Key, ItemScore], None]


@dataclass(frozen=True, slots=True)
class Task:
    """An item that a model is asked."""

    key: Key
    item: Item
    scorer: Scorer
    model: Model


def tasks_of(model: Model, suites: Iterable[Suite]) -> list[Task]:
    """All items of all suites for one model, those whose time is measured at the end."""
    found = [
        Task((model.subject.digest, suite.reference, item.id), item, scorer_of(item, suite.reference), model)
        for suite in suites
        for item in suite.items
    ]
    return sorted(found, key=lambda task: task.scorer.alone)


async def run(
    tasks: Sequence[Task],
    done: Mapping[Key, ItemScore],
    on_score: OnScore,
    *,
    typos: float = 0.0,
    stop: asyncio.Event | None = None,
) -> bool:
    """Score the tasks that are not in `done`.

    Args:
        tasks: In order.
        done: Scores that are there already.
        on_score: Called with each new score.
        typos: Letters with typing errors, 0 to 1: each item is asked with them too.
        stop: Ends the run: what is asked already is still scored.

    Returns:
        Whether all are scored.

    Raises:
        LlmosError: The model can't be asked; what was scored before is kept.
    """
    left = [task for task in tasks if task.key not in done]
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(task: Task) -> None:
        async with slots:
            if stop is not None and stop.is_set():
                return
            on_score(task.key, await _score(task, typos))

    for alone in (False, True):
        some = [task for task in left if task.scorer.alone is alone]
        if alone:
            for task in some:
                await one(task)
        else:
            await _all(one(task) for task in some)
    return stop is None or not stop.is_set()


async def _all(coroutines: Iterable[Awaitable[None]]) -> None:
    """Run all; the first error ends the others and is raised alone."""
    running = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*running)
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise


async def _score(task: Task, typos: float) -> ItemScore:
    try:
        score = await task.scorer.score(task.item, task.model)
        if not typos or task.scorer.alone:
            return score
        return with_falls(score, await task.scorer.score(with_typos(task.item, typos), task.model))
    except (ContextLengthExceeded, PayloadTooLarge) as error:
        return ItemScore(left_out=error.message)
    except InvalidInput as error:
        raise type(error)(f"{task.key[1]}, item {task.item.id[:12]}: {error.message}", param=error.param) from error


def with_falls(score: ItemScore, mistyped: ItemScore) -> ItemScore:
    """A score with those of the same item with typing errors: `f1.typos`, and how far it fell: `f1.fall`."""
    values, sums = dict(score.values), dict(score.sums)
    for name, value in mistyped.values.items():
        values[f"{name}.typos"] = value
        values[f"{name}.fall"] = score.values[name] - value
    sums |= {f"{name}.typos": value for name, value in mistyped.sums.items()}
    return score.model_copy(update={"values": values, "sums": sums})
