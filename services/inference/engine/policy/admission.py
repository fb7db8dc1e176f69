"""Whether a request is accepted: it must fit a slot and the queue. Pure.

Tenants share the queue by dynamic thresholds (Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory
Packet Switches", 1998): a tenant may hold as much of the queue as is still free. One tenant that floods an empty
queue gets half of it, n tenants get 1/(n+1) each, and a tenant with nothing in the queue always finds a place.
"""

from services.inference.engine.limits import EngineLimits
from services.inference.engine.policy.fairness import Tenants
from services.inference.engine.policy.throughput import Throughput
from services.inference.engine.request import SequenceRequest
from services.inference.engine.sequence import Sequence
from shared.errors import InvalidInput, Overloaded
from shared.text.context_length import check_context_length

_SOONEST_S = 1.0
"""The least `retry_after`."""


def check_request(request: SequenceRequest, *, vocab_size: int, max_len: int) -> None:
    """Raise unless a slot can take the request.

    Raises:
        InvalidInput: The prompt is empty or has a token id that the vocabulary lacks.
        ContextLengthExceeded: Prompt and max_tokens together do not fit a slot.
    """
    if not request.prompt:
        raise InvalidInput("the prompt has no tokens", param="prompt")
    for token in (min(*request.prompt, *request.resumed, 0), max(*request.prompt, *request.resumed, 0)):
        if not 0 <= token < vocab_size:
            raise InvalidInput(f"token id {token} is outside the vocabulary of {vocab_size}", param="prompt")
    answer = max(request.sampling.max_tokens, len(request.resumed))
    check_context_length(len(request.prompt), answer, max_len, param="max_tokens")


class Admission:
    """The bounds of the queue.

    Args:
        limits: The bounds.
        tenants: The sequences in the queue.
        throughput: How fast the queue gets shorter.
        slots: Sequences that run at once.
    """

    def __init__(self, limits: EngineLimits, tenants: Tenants, throughput: Throughput, *, slots: int) -> None:
        self._limits = limits
        self._tenants = tenants
        self._throughput = throughput
        self._slots = slots

    def check_fit(self, sequence: Sequence, *, free_slots: int) -> None:
        """Raise `Overloaded`, with the time until there is space, unless the queue can take the sequence."""
        name = sequence.request.tenant
        self.check_queue(name, free_slots=free_slots, work=sequence.expected_work)
        tenant = self._tenants.get(name)
        if tenant is None or not tenant.queued_tokens:
            return
        queued = self._tenants.queued_tokens
        over = tenant.queued_tokens + sequence.expected_work - (self._limits.max_queued_tokens - queued)
        if over > 0:
            raise _overloaded(
                f"{queued} prompt tokens wait already", self._throughput.prefill_s(len(self._tenants) * over)
            )

    def check_queue(self, name: str, *, free_slots: int, work: int = 0) -> None:
        """Raise `Overloaded` if a tenant's next request, with `work` tokens to compute, would be refused."""
        tenant = self._tenants.get(name)
        waiting = self._tenants.waiting
        if waiting >= free_slots:  # else it starts in the next step
            behind = waiting - free_slots
            mine = min(len(tenant.waiting), behind) if tenant else 0
            if mine >= self._limits.max_waiting - behind:
                sharers = len(self._tenants) + (tenant is None)
                raise _overloaded(f"{waiting} requests wait already", self._throughput.slots_s(sharers, self._slots))
        wait = self.wait_s(name, free_slots=free_slots, work=work)
        if wait > self._limits.max_wait_s:
            raise _overloaded(
                f"a request would wait about {wait:.0f} s, and at most {self._limits.max_wait_s:g} s are allowed",
                wait - self._limits.max_wait_s,
            )

    def wait_s(self, name: str, *, free_slots: int, work: int = 0) -> float:
        """Seconds that a tenant's next request, with `work` tokens to compute, will probably wait for others.

        Ahead of it is the whole queue, or its tenant's own part times the number of tenants that take turns,
        whichever is less. Of its tenant's prompts, shorter ones go first, and the oldest gets as many chunks as all
        of those: a long prompt ahead does not delay a short one.
        """
        tenant = self._tenants.get(name)
        sharers = len(self._tenants) + (tenant is None)
        sequences = tokens = 0
        if tenant is not None:
            shorter = sum(each for each in tenant.queued_work() if each <= work)
            sequences, tokens = len(tenant.waiting), min(tenant.queued_tokens, 2 * shorter)
        sequences = min(self._tenants.waiting, sharers * (sequences + 1))
        tokens = min(self._tenants.queued_tokens, sharers * tokens)
        ahead = sequences + 1 - free_slots
        return max(self._throughput.prefill_s(tokens), self._throughput.slots_s(ahead, self._slots))


def _overloaded(what: str, retry_after: float) -> Overloaded:
    return Overloaded(what, retry_after=max(_SOONEST_S, retry_after))
