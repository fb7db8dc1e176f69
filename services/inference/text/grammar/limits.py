"""Bounds on the work of one grammar: to compile it, and in each step.

Measured with llguidance 1.9 and a vocabulary of 49,152 on one core (Zen 3): the mask of a usual schema takes 0.02 to
0.2 ms, the slowest within these limits about 10 ms.
"""

from llguidance import LLParserLimits

CPU_LIMIT_S = 1.0
"""Processor seconds that compiling may take; the kernel ends the worker after that."""
NICENESS = 10
"""Of the worker. Beside an engine that takes all cores it has a tenth of one: a usual grammar takes 0.2 s there."""
TURN_S = 2.0
"""Seconds after which a grammar that is still being compiled makes way for one of another tenant."""
WALL_LIMIT_S = 8.0
"""Seconds that a request waits for its grammar, the queue included."""
MEMORY_LIMIT = 384 << 20
"""Bytes of address space that the worker may have."""
MASK_LIMIT_S = 0.1
"""Processor seconds of one mask after which the sequence is ended: every other sequence waits for it."""


def limits() -> LLParserLimits:
    """The library's own limits: tighter than its defaults where those cost other sequences time."""
    return LLParserLimits(
        max_items_in_row=1000,
        initial_lexer_fuel=500_000,
        step_lexer_fuel=50_000,
        step_max_items=10_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        precompute_large_lexemes=False,
        verbose_errors=False,
    )
