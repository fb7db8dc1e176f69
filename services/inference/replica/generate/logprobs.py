"""The engine's scores as the frames carry them: with texts."""

from collections.abc import Sequence

from services.inference.engine.sampling.params import TokenScore
from services.inference.text.token_text import ShownTokens
from shared.contracts.gateway import ScoredToken, TokenLogprob


def with_texts(
    scores: Sequence[TokenScore], shown: ShownTokens, *, bare: int | None = None
) -> tuple[TokenLogprob, ...]:
    """The scores of consecutive tokens.

    Args:
        scores: The engine's.
        shown: Their texts.
        bare: Index of the token that begins the text without its space, and any in its place would.
    """
    told = (_told(score, shown) for score in scores)
    return tuple(_bare(each) if index == bare else each for index, each in enumerate(told))


def _bare(score: TokenLogprob) -> TokenLogprob:
    top = tuple(each.model_copy(update=_without_space(each)) for each in score.top)
    return score.model_copy(update={**_without_space(score), "top": top})


def _without_space(token: ScoredToken) -> dict[str, object]:
    data = token.bytes
    return {
        "text": token.text.removeprefix(" "),
        "bytes": data[1:] if data is not None and data[:1] == (ord(" "),) else data,
    }


def _told(score: TokenScore, shown: ShownTokens) -> TokenLogprob:
    text, data = shown.show(score.token)
    top = tuple(_scored(token, logprob, shown) for token, logprob in score.top)
    return TokenLogprob(token_id=score.token, text=text, bytes=data, logprob=score.logprob, top=top, rank=score.rank)


def _scored(token: int, logprob: float, shown: ShownTokens) -> ScoredToken:
    text, data = shown.show(token)
    return ScoredToken(token_id=token, text=text, bytes=data, logprob=logprob)
