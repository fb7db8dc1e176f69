"""What a replica takes, measured, beside what its manifest says that it needs.

    python -m benchmarks.memory [--model-dir DIR] [--points 4x1024 16x4096]

Prints one JSON line per point: slots x tokens per slot, all of them full. Each is measured in a process of its own,
with the imports of a replica but without a bus. `resident` counts mapped weights in full, `proportional` counts what
processes share in parts: two of them run at once, as two replicas of one version would. `ratio` is resident / need,
where the need leaves out the helper processes and the bus client that are not there, and structured output:
`grammars` is its vocabulary and 64 compiled schemas, after all else, of `grammars_need`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from services.inference.runtime.kv import HostKv
    from shared.contracts.manifest import Manifest
    from shared.text.tokenizer import Tokenizer

MIB = 1 << 20
HELPERS = 65_000_000
"""Bytes of the need's `process` that these processes lack: the template process and the bus client."""
GRAMMARS = 64


def main() -> None:
    """Measure all points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-dir", type=Path, help="a converted version; default: the demo model is converted")
    parser.add_argument("--points", nargs="+", default=["4x1024", "16x1024", "16x4096"])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        slots, max_len = map(int, arguments.points[0].split("x"))
        _worker(arguments.model_dir, slots, max_len)
        return
    with tempfile.TemporaryDirectory() as work:
        folder = arguments.model_dir or _converted(Path(work))
        for point in arguments.points:
            print(json.dumps(_measure(folder, point)), flush=True)


def _converted(work: Path) -> Path:
    from devtools.convert import convert_gguf  # noqa: PLC0415  # not in the processes that are measured
    from llmos.cli.demo import demo_gguf  # noqa: PLC0415

    manifest = convert_gguf(demo_gguf(), work / "version")
    (work / "version" / "manifest.json").write_bytes(manifest.encode())
    return work / "version"


def _measure(folder: Path, point: str) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.memory", "--worker", "--model-dir", str(folder), "--points", point]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        first, _ = (json.loads(_line(worker)) for worker in workers)
        both = [_proportional(worker.pid) for worker in workers]
    finally:
        for worker in workers:
            worker.communicate("\n")
    return {"benchmark": "memory", "point": point, **first, "proportional_mib": round(both[0] / MIB, 1)}


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline()


def _worker(folder: Path, slots: int, max_len: int) -> None:
    import services.inference.replica.app  # noqa: F401, PLC0415  # what a replica has in memory
    from services.inference.engine.decoder import Span  # noqa: PLC0415
    from services.inference.engine.limits import EngineLimits  # noqa: PLC0415
    from services.inference.engine.sampling.params import SamplingParams  # noqa: PLC0415
    from services.inference.engine.sampling.sampler import Draw, choose  # noqa: PLC0415
    from services.inference.runtime.onnx_decoder import OnnxDecoder  # noqa: PLC0415
    from shared.contracts.manifest import Manifest  # noqa: PLC0415
    from shared.text.tokenizer import Tokenizer  # noqa: PLC0415

    manifest = Manifest.decode((folder / "manifest.json").read_bytes())
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    stages = {"process": _resident()}
    decoder = OnnxDecoder(folder, manifest.the_decoder, slots=slots, max_len=max_len, threads=os.cpu_count() or 1)
    stages["weights"] = _resident()
    step, chunk = (min(size, max_len) for size in (EngineLimits().step_tokens, EngineLimits().prefill_chunk))
    kv = cast("HostKv", decoder._kv)  # noqa: SLF001
    kv.view(1, 0, max_len)[...] = 0.0  # a prompt's tokens, without computing them
    written = _resident()
    for start in (0, (max_len - step) // 2, max_len - step):
        decoder.compute([Span(0, start, [1] * step)])
    decoder.compute([Span(0, max_len - chunk, [1] * chunk, logits=chunk)])  # log probabilities of a prompt
    stages["activations"] = stages["weights"] + _resident() - written
    for slot in range(1, slots):
        kv.view(slot + 1, 0, max_len)[...] = 0.0
    logits = decoder.decode([1] * slots, [max_len - 1] * slots)
    params = SamplingParams(max_tokens=1, temperature=0.9, top_k=40, top_p=0.9, logprobs=5)
    for row in logits:
        choose(row, Draw(params, max_len))
    full = _resident()
    memory = manifest.memory
    need = memory.replica_bytes(slots=slots, max_len=max_len) - HELPERS - memory.grammars
    compiled = _grammars(tokenizer, manifest)
    grammars = _resident() - full
    parts = list(stages.items())
    print(
        json.dumps(
            {
                **{f"{name}_mib": round((size - before) / MIB, 1)
                   for (name, size), (_, before) in zip(parts, [("", 0), *parts], strict=False)},
                "slots_mib": round((full - stages["activations"]) / MIB, 1),
                "resident_mib": round(full / MIB, 1),
                "need_mib": round(need / MIB, 1),
                "ratio": round(full / need, 3),
                "grammars_mib": round(grammars / MIB, 1),
                "grammars_need_mib": round(memory.grammars / MIB, 1),
            }
        ),
        flush=True,
    )  # fmt: skip
    sys.stdin.readline()
    del tokenizer, compiled


def _grammars(tokenizer: "Tokenizer", manifest: "Manifest") -> list[object]:
    """Compiled schemas of a dozen properties, and an answer's beginning in each."""
    from services.inference.text.grammar.compiled import CompiledGrammar  # noqa: PLC0415
    from services.inference.text.grammar.source import grammar_source  # noqa: PLC0415
    from services.inference.text.grammar.tokenizer import grammar_tokenizer  # noqa: PLC0415
    from shared.contracts.replica import Grammar  # noqa: PLC0415

    spec = manifest.the_decoder
    vocabulary = grammar_tokenizer(tokenizer, vocab_size=spec.vocab_size, eos_token_ids=spec.eos_token_ids)
    held: list[object] = []
    for name in range(GRAMMARS):
        properties = {f"field_{name}_{index}": {"type": "string"} for index in range(12)}
        schema = json.dumps({"type": "object", "properties": properties, "additionalProperties": False})
        grammar = CompiledGrammar(vocabulary, grammar_source(Grammar(kind="json_schema", value=schema)))
        constraint = grammar.start()
        for token in tokenizer.encode(f'{{"field_{name}_0": "some text", "field_{name}_1": "more'):
            constraint.mask()
            constraint.accept(token)
        held.append((grammar, constraint))
    return held


def _resident() -> int:
    """The peak of resident bytes of this process."""
    return _number(Path("/proc/self/status"), "VmHWM:")


def _proportional(pid: int) -> int:
    return _number(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _number(path: Path, name: str) -> int:
    return int(path.read_text().split(name)[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
