"""Perplexity of texts, by windows that slide over them.

Each window is scored behind the text before it, so that every token but those of the first window has half a window
of context. Windows are cut before a space and measured in characters: all models see the same ones. Perplexity is per
token and compares versions of one tokenizer; bits per byte compare any two.
"""

from collections.abc import Iterator
from itertools import pairwise

from devtools.data.rows import Item
from devtools.evaluate.metric import Metric, bits_ratio, exp_ratio
from devtools.evaluate.scorers.scorer import Model, Scorer, int_label
from shared.contracts.report import ItemScore
from shared.errors import InvalidInput

WINDOW = 2_000
"""Characters of a window with its context, unless `labels.window` says otherwise."""
_PROMPTS_AT_ONCE = 4

PERPLEXITY_METRIC = Metric("perplexity", higher_is_better=False, relative=True, combine=exp_ratio, discrete=False)
BITS_PER_BYTE = Metric("bits_per_byte", higher_is_better=False, relative=True, combine=bits_ratio, discrete=False)


def windows(text: str, size: int) -> Iterator[tuple[str, str]]:
    """(context, piece) in order: the pieces are the text; context and piece together have about `size` characters."""
    ends = [0, _cut(text, size, 0)]
    while ends[-1] < len(text):
        ends.append(_cut(text, ends[-1] + size // 2, ends[-1]))
    for begin, end in pairwise(ends):
        context = _cut(text, begin - size // 2, 0) if begin > size // 2 else 0
        yield text[context:begin], text[begin:end]


def _cut(text: str, at: int, above: int) -> int:
    """The last space up to `at` and above `above`, so that no word is cut; `at` where there is none."""
    if at >= len(text):
        return len(text)
    return next((place for place in range(at, above, -1) if text[place].isspace()), at)


def text_of(item: Item) -> str:
    """The text that is measured."""
    return item.references[0] if item.references else item.prompt


async def score_text(item: Item, model: Model) -> ItemScore:
    """Sums of negative log-likelihoods, tokens and bytes of the item's text."""
    text = text_of(item)
    size = int_label(item, "window", WINDOW)
    start = item.labels.get("start", model.subject.start)
    pieces = [(context or start, piece) for context, piece in windows(text, size)]
    nats, tokens = 0.0, 0
    for at in range(0, len(pieces), _PROMPTS_AT_ONCE):
        some = pieces[at : at + _PROMPTS_AT_ONCE]
        found = await model.gateway.score(model.subject.deployment, [context + piece for context, piece in some])
        for (context, _), scored in zip(some, found, strict=True):
            value, count = scored.behind(len(context))
            nats -= value
            tokens += count
    if not tokens:
        raise InvalidInput("the text has no tokens", param="references")
    return ItemScore(sums={"perplexity": (nats, tokens), "bits_per_byte": (nats, len(text.encode()))})


PERPLEXITY = Scorer(
    "perplexity",
    (PERPLEXITY_METRIC, BITS_PER_BYTE),
    score_text,
    lambda item: "" if text_of(item).strip() else "a text in references or prompt",
)
