"""OpenVINO GenAI's continuous batching, asked by its own loop; runs under a Python that has `openvino_genai`.

    python openvino_worker.py MODEL.gguf

Reads one JSON object a line, `{"prompts": [messages, …], "concurrency": n, "max_tokens": n}`, and answers each with
`{"answers": [{"start", "stamps", "end", "prompt_tokens", "completion_tokens"}, …]}`, times in seconds. What the
library itself prints is sent to stderr. No HTTP is in its way: it is favoured by what that costs.
"""

import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

SHOWN = ("start", "stamps", "end", "prompt_tokens", "completion_tokens")


@dataclass
class Asked:
    """One request."""

    start: float
    prompt_tokens: int
    handle: Any
    stamps: list[float] = field(default_factory=list)
    end: float = 0.0
    completion_tokens: int = 0

    def read(self, now: float) -> None:
        """Take what the last step made."""
        while self.handle.can_read():
            for output in self.handle.read().values():
                new = len(output.generated_ids)
                self.completion_tokens += new
                self.stamps += [now] * new


class Pipeline:
    """The pipeline in its default settings, which batch continuously."""

    def __init__(self, model: str) -> None:
        import openvino_genai as genai  # noqa: PLC0415  # only where it is installed

        self._genai = genai
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = 2
        scheduler.max_num_seqs = 64
        scheduler.enable_prefix_caching = False
        self._pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU")
        self._tokenizer = self._pipeline.get_tokenizer()
        self._count = 0

    def run(self, prompts: list[list[dict[str, str]]], concurrency: int, max_tokens: int) -> list[Asked]:
        """Ask all prompts, `concurrency` at a time."""
        waiting = list(reversed(prompts))
        running: list[Asked] = []
        done: list[Asked] = []
        while waiting or running:
            while waiting and len(running) < concurrency:
                running.append(self._ask(waiting.pop(), max_tokens))
            self._pipeline.step()
            now = time.perf_counter()
            for asked in running:
                asked.read(now)
            for asked in [asked for asked in running if asked.completion_tokens >= max_tokens]:
                asked.end = now
                running.remove(asked)
                done.append(asked)
        return done

    def _ask(self, messages: list[dict[str, str]], max_tokens: int) -> Asked:
        start = time.perf_counter()
        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = max_tokens, True, False
        text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        tokens = self._tokenizer.encode(text, add_special_tokens=False).input_ids
        self._count += 1
        return Asked(start, tokens.shape[1], self._pipeline.add_request(self._count, tokens, config))


def main() -> None:
    """Completion lines until there are none."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    pipeline = Pipeline(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        done = pipeline.run(order["prompts"], order["concurrency"], order["max_tokens"])
        shown = [{name: getattr(asked, name) for name in SHOWN} for asked in done]
        print(json.dumps({"answers": shown}), file=answers, flush=True)


if __name__ == "__main__":
    main()
