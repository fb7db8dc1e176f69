"""Where a model that writes down speech may write a timestamp, and where it must.

The rules of Whisper's own decoder (openai/whisper, `decoding.py`, ApplyTimestampRules): timestamps come in pairs,
except before the end; they do not fall; an answer begins with one; and one is written where they are together
likelier than each other token.
"""

from collections.abc import Sequence

import numpy as np

from services.inference.engine.sampling.allowed_tokens import NEVER, LogitsRow


def apply_timestamp_rules(row: LogitsRow, answer: Sequence[int], *, begin: int, eos: int, latest_first: int) -> None:
    """Change the logits for the next token, in place.

    Args:
        row: float32 [V].
        answer: Tokens so far.
        begin: The id of the timestamp 0.00; those after it follow.
        eos: The end of the answer, which lies before `begin`.
        latest_first: Of the first timestamp, how many steps after 0.00 it may be.
    """
    row[begin - 1] = NEVER  # "no timestamps", which the prompt would have had
    if not answer:
        row[:begin] = NEVER
        row[begin + latest_first + 1 :] = NEVER
        return
    last = answer[-1] >= begin
    before = len(answer) < 2 or answer[-2] >= begin
    if last and before:
        row[begin:] = NEVER
    elif last:
        row[:eos] = NEVER
    stamps = [token for token in answer if token >= begin]
    if stamps:
        # The second of a pair may equal the first; after a pair, time has gone on.
        row[begin : stamps[-1] + (0 if last and not before else 1)] = NEVER
    peak = row.max()
    if peak > NEVER:
        stamp_mass = np.logaddexp.reduce(row[begin:].astype(np.float64) - peak)
        if stamp_mass > float(row[:begin].max()) - float(peak):
            row[:begin] = NEVER
