"""The process that tries grammars: `python -m services.inference.text.grammar.worker`.

A grammar comes from a client, and compiling one can take any time and memory: `{"type": "integer", "multipleOf":
1000003}` takes 20 s, and the library's limits do not bound it. So each is compiled here first, where the kernel
limits processor time (a timer whose signal ends the process) and memory (address space); a crash costs this process
alone. It runs at the lowest priority: streams go first. The replica starts a new one when it ends.

The vocabulary makes no difference to what is tried here, so single bytes do for one.

Each way, a message is its length in four bytes, then JSON: the grammar, then why it was refused or null.
"""

import json
import resource
import signal
import struct
import sys

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from services.inference.text.grammar.limits import CPU_LIMIT_S, MEMORY_LIMIT, limits

LENGTH = struct.Struct(">I")
_VOCAB_SIZE = 1 << 20
"""A grammar may name control tokens by id."""


class _Bytes:
    """What `TokenizerWrapper` reads: a vocabulary of the 256 bytes and one control token."""

    bos_token_id = None
    eos_token_id = 256
    special_token_ids = (256,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<eos>")

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


def main() -> int:
    """Serve until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the replica, which still needs us while it drains
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=_VOCAB_SIZE)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        lark = json.loads(requests.read(LENGTH.unpack(head)[0]))
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        error = _try(tokenizer, lark)
        signal.setitimer(signal.ITIMER_PROF, 0)
        data = json.dumps(error).encode()
        answers.write(LENGTH.pack(len(data)) + data)
        answers.flush()
    return 0


def _try(tokenizer: LLTokenizer, lark: str) -> str | None:
    """Why the library refuses the grammar; None if it does not."""
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0, limits=limits())
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher.get_error() or None


if __name__ == "__main__":
    sys.exit(main())
