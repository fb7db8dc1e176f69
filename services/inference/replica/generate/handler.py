"""Handles generate requests: checks each, opens its stream, and submits it to the engine."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from opentelemetry import context as otel_context

from services.inference.engine.engine import Engine
from services.inference.engine.request import SequenceRequest
from services.inference.engine.sampling.params import SamplingParams
from services.inference.replica.generate.bad_words import bad_word_ids
from services.inference.replica.generate.cache_scope import cache_scope
from services.inference.replica.generate.sampling import SamplingResolver
from services.inference.replica.generate.serving import Serving
from services.inference.replica.generate.stream import Finish, Stream
from services.inference.text.answer_text import AnswerText
from services.inference.text.structured_output import StructuredOutput, StructuredOutputBuilder
from services.inference.text.token_texts import TokenTexts
from services.inference.turns import Turns
from shared.contracts.gateway import FinishReason
from shared.contracts.replica import Accepted, Generate, Thinking
from shared.errors import Conflict, DeadlineExceeded, Draining
from shared.text.prompt import PromptBuilder
from shared.text.thinking import THINK, THINK_END
from shared.text.tokenizer import Tokenizer

_THINK_TOKENS = 16
"""At the end of a prompt: enough for a tag and the white space around it."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What all answers of one request have in common."""

    prompt: list[int]
    bad_words: tuple[tuple[int, ...], ...]
    scope: str
    """Who shares what was computed earlier (`cache_scope`)."""
    deadline: float | None
    """Seconds on the monotonic clock."""
    accepted_ns: int
    """Unix time."""


class GenerateHandler:
    """Handles `generate`.

    Args:
        serving: Holds accepted requests.
        engine: Runs them.
        prompts: Makes their prompts.
        tokenizer: The version's.
        sampling: Resolves their sampling parameters.
        structured: Builds the structure that their answers must have.
        turns: In which prompts are rendered and tokenised.
        parallel_calls: Whether an answer may have several calls: a template that takes one call in a message could
            not show the answer again.
        thinks: Whether the template knows thoughts.
        share_cache: Whether tenants share what was computed earlier.
    """

    def __init__(
        self,
        serving: Serving,
        engine: Engine,
        *,
        prompts: PromptBuilder,
        tokenizer: Tokenizer,
        sampling: SamplingResolver,
        structured: StructuredOutputBuilder,
        turns: Turns,
        parallel_calls: bool = True,
        thinks: bool = False,
        share_cache: bool = False,
    ) -> None:
        self._serving = serving
        self._engine = engine
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._structured = structured
        self._turns = turns
        self._parallel_calls = parallel_calls
        self._thinks = thinks
        self._share_cache = share_cache
        self._token_texts = TokenTexts(tokenizer)
        self._preparing: set[str] = set()
        """Requests that do not enter the engine's queue yet, without those that were cancelled meanwhile."""

    def cancel(self, request_id: str) -> None:
        """End a request as soon as possible. Unknown ids are ignored."""
        self._preparing.discard(request_id)
        self._serving.abort([request_id], FinishReason.CANCELLED)

    async def __call__(self, request: Generate) -> Accepted:
        """Returns when the request waits in the engine's queue; frames follow.

        Raises `Draining`, `Overloaded`, `DeadlineExceeded`, `ContextLengthExceeded`, `Conflict`, or `InvalidInput`
        with the field.
        """
        accepted_ns, arrived = time.time_ns(), time.monotonic()
        deadline = None if request.time_left_s is None else arrived + request.time_left_s
        self._check(deadline)
        if not self._parallel_calls:
            single = request.tool_choice.model_copy(update={"parallel": False})
            request = request.model_copy(update={"tool_choice": single})
        if not request.resume_token_ids:  # a resumed answer may be complete, and then does not enter the queue
            self._engine.check_queue(request.tenant)
        answers, scope = request.answers(), cache_scope(request, shared=self._share_cache)
        with self._cancellable([each.request_id for each in answers]):
            structured = [await self._structured.build(each, scope) for each in answers]
            async with self._turns.turn(request.tenant):
                self._check(deadline)
                self._waited_for(answers)
                prompt = await self._prompts.token_ids(request)
                bad_words = await bad_word_ids(self._tokenizer, request.sampling.bad_words or ())
            self._check(deadline)
            waited_for = self._waited_for(answers)
        arrival = _Arrival(prompt, bad_words, scope, deadline, accepted_ns)
        opened: list[str] = []
        try:
            for answer, structure in zip(answers, structured, strict=True):
                if answer.request_id in waited_for:
                    self._open(answer, structure, arrival)
                    opened.append(answer.request_id)
        except BaseException:
            self._serving.abort(opened, FinishReason.CANCELLED)
            raise
        accepted = Accepted(prompt_tokens=len(prompt), thinking=self._thinking(request, prompt))
        if not request.return_prompt:
            return accepted
        text = self._token_texts.prompt_text(prompt) if request.prompt is None else request.prompt
        return accepted.model_copy(update={"prompt_token_ids": tuple(prompt), "prompt_text": text})

    def _thinking(self, request: Generate, prompt: Sequence[int]) -> Thinking:
        """Whether the answer begins with thoughts. One that a grammar holds from its first token does not."""
        if not self._thinks or request.messages is None or request.grammar is not None:
            return "none"
        end = self._token_texts.prompt_text(prompt[-_THINK_TOKENS:]).rstrip()
        return "open" if end.endswith(THINK) else "none" if end.endswith(THINK_END) else "may"

    def _open(self, request: Generate, structured: StructuredOutput, arrival: "_Arrival") -> None:
        """Open the stream of one answer, and submit it."""
        prompt = arrival.prompt
        params = self._sampling.resolve(
            request.sampling, len(prompt), arrival.bad_words, clip=request.clip_max_tokens
        )
        stop_ids: Sequence[int] = ()
        if structured.calls is not None:  # the engine does not know where a call is
            stop_ids, params = params.stop_token_ids, replace(params, stop_token_ids=())
        stream = Stream(
            request_id=request.request_id,
            gateway_id=request.gateway_id,
            answer=AnswerText(
                self._tokenizer,
                request.sampling.stop or (),
                params.ending_ids,
                request.resume_token_ids,
                include_stop=bool(request.sampling.include_stop_str_in_output),
                min_tokens=params.min_tokens,
                stop_ids=stop_ids,
                control_texts=structured.control_texts,
                calls=structured.calls,
                exact=request.grammar is not None or self._continues_text(request, prompt),
            ),
            prompt_tokens=len(prompt),
            resumed_tokens=len(request.resume_token_ids),
            max_tokens=params.max_tokens,
            deadline=arrival.deadline,
            accepted_ns=arrival.accepted_ns,
            context=otel_context.get_current(),
            token_texts=None if params.logprobs is None and params.prompt_logprobs is None else self._token_texts,
        )
        if (finish := _complete(stream, params, structured)) is not None:
            self._serving.finish_at_once(stream, finish)
        else:
            self._submit(request, arrival, params, stream, structured)

    def _continues_text(self, request: Generate, prompt: Sequence[int]) -> bool:
        """Whether the answer continues a text: then a space at its start separates two words."""
        begins = request.messages is not None and not request.template.continue_final_message
        return not begins and any(map(self._tokenizer.token_bytes, prompt))

    @contextmanager
    def _cancellable(self, ids: Iterable[str]) -> Iterator[None]:
        self._preparing |= set(ids)
        try:
            yield
        finally:
            self._preparing -= set(ids)

    def _waited_for(self, answers: Sequence[Generate]) -> set[str]:
        """Ids of the answers that were not cancelled meanwhile; raises `Conflict` if all were."""
        left = {each.request_id for each in answers} & self._preparing
        if not left:
            raise Conflict("the request was cancelled by its sender", param="request_id")
        return left

    def _check(self, deadline: float | None) -> None:
        if self._serving.draining:
            raise Draining("this replica is draining; try another replica")
        if deadline is not None and deadline <= time.monotonic():
            raise DeadlineExceeded("the request's deadline passed before it could start")

    def _submit(
        self,
        request: Generate,
        arrival: "_Arrival",
        params: SamplingParams,
        stream: Stream,
        structured: StructuredOutput,
    ) -> None:
        sequence = SequenceRequest(
            request.request_id,
            arrival.prompt,
            request.resume_token_ids,
            sampling=params,
            tenant=request.tenant,
            cache_salt=arrival.scope,
            constraint=structured.constraint,
        )
        self._serving.open(stream)
        try:
            self._engine.submit(sequence)
        except BaseException:
            self._serving.forget(stream)
            raise


def _complete(stream: Stream, params: SamplingParams, structured: StructuredOutput) -> Finish | None:
    """The end of an answer that needs no computing, or None.

    It may have no tokens, or its replica was lost between its last token and its last frame.
    """
    if stream.answer.stopped or (structured.constraint is not None and structured.constraint.finished):
        return Finish(FinishReason.STOP)
    if stream.answer.tokens >= params.max_tokens and (stream.answer.tokens or params.prompt_logprobs is None):
        return Finish(FinishReason.LENGTH)
    return None
