"""peft and transformers as a child process that `training.py` times: a Python of its own with both.

    PYTHON benchmarks/training_peer.py MODEL_DIRECTORY THREADS

Reads one JSON object per line, `{"rows": [[ids, start], …], "bfloat16": false}`, makes one step on it, padded as
transformers' collators do it, and answers with its seconds and its loss.
"""

import contextlib
import json
import sys
import time

import peft
import torch
import transformers

IGNORED = -100


def main() -> None:
    """Serve until standard input ends."""
    torch.set_num_threads(int(sys.argv[2]))
    model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, betas=(0.9, 0.95))
    versions = {library.__name__: library.__version__ for library in (torch, transformers, peft)}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        wall, processor = time.perf_counter(), time.process_time()
        length = max(len(ids) for ids, _ in asked["rows"])
        ids = torch.zeros(len(asked["rows"]), length, dtype=torch.int64)
        labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
        for row, (tokens, start) in enumerate(asked["rows"]):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, start : len(tokens)] = ids[row, start : len(tokens)]
            mask[row, : len(tokens)] = 1
        precision = torch.autocast("cpu", torch.bfloat16) if asked["bfloat16"] else contextlib.nullcontext()
        with precision:
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        answer = {
            "wall": time.perf_counter() - wall, "processor": time.process_time() - processor, "loss": loss.item(),
        }  # fmt: skip
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
