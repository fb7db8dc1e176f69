"""Handles generate requests: checks each, opens its stream, and submits it to the engine."""

import time
from collections.abc import Sequence
from dataclasses import replace

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
from shared.contracts.gateway import FinishReason
from shared.contracts.replica import Accepted, Generate
from shared.errors import DeadlineExceeded, Draining
from shared.text.prompt import PromptBuilder
from shared.text.tokenizer import Tokenizer


class GenerateHandler:
    """Handles `generate`.

    Args:
        serving: Holds accepted requests.
        engine: Runs them.
        prompts: Makes their prompts.
        tokenizer: The version's.
        sampling: Resolves their sampling parameters.
        structured: Builds the structure that their answers must have.
        parallel_calls: Whether an answer may have several calls: a template that takes one call in a message could
            not show the answer again.
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
        parallel_calls: bool = True,
        share_cache: bool = False,
    ) -> None:
        self._serving = serving
        self._engine = engine
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._structured = structured
        self._parallel_calls = parallel_calls
        self._share_cache = share_cache
        self._token_texts = TokenTexts(tokenizer)

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
        scope = cache_scope(request, shared=self._share_cache)
        structured = await self._structured.build(request, scope)
        prompt = await self._prompts.token_ids(request)
        bad_words = await bad_word_ids(self._tokenizer, request.sampling.bad_words or ())
        self._check(deadline)
        params = self._sampling.resolve(request.sampling, len(prompt), bad_words)
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
            deadline=deadline,
            accepted_ns=accepted_ns,
            context=otel_context.get_current(),
            token_texts=None if params.logprobs is None and params.prompt_logprobs is None else self._token_texts,
        )
        if (finish := _complete(stream, params, structured)) is not None:
            self._serving.finish_at_once(stream, finish)
        else:
            self._submit(request, prompt, params, stream, structured, scope=scope)
        if not request.return_prompt:
            return Accepted(prompt_tokens=len(prompt))
        text = self._token_texts.prompt_text(prompt) if request.prompt is None else request.prompt
        return Accepted(prompt_tokens=len(prompt), prompt_token_ids=tuple(prompt), prompt_text=text)

    def _continues_text(self, request: Generate, prompt: Sequence[int]) -> bool:
        """Whether the answer continues a text: then a space at its start separates two words."""
        begins = request.messages is not None and not request.template.continue_final_message
        return not begins and any(map(self._tokenizer.token_bytes, prompt))

    def _check(self, deadline: float | None) -> None:
        if self._serving.draining:
            raise Draining("this replica is draining; try another replica")
        if deadline is not None and deadline <= time.monotonic():
            raise DeadlineExceeded("the request's deadline passed before it could start")

    def _submit(
        self,
        request: Generate,
        prompt: Sequence[int],
        params: SamplingParams,
        stream: Stream,
        structured: StructuredOutput,
        *,
        scope: str,
    ) -> None:
        sequence = SequenceRequest(
            request.request_id,
            prompt,
            request.resume_token_ids,
            sampling=params,
            tenant=request.tenant,
            cache_salt=scope,
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
