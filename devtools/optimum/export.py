"""A checkpoint becomes a version: exported in optimum's environment, checked in LLMOS's own."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from devtools.convert.decoder_version import Progress, describe_file, no_progress, staged
from devtools.convert.encoder.config import read_license
from devtools.convert.hf.tokenizer import read_tokenizer
from devtools.convert.memory_need import GRAMMAR_BYTES_PER_ID, GRAMMARS, LOGITS_AT_ONCE, PACKED, PROCESS
from devtools.optimum.check import check_graphs
from devtools.optimum.checkpoint import check_checkpoint, checkpoint_digest
from devtools.optimum.environment import OptimumEnvironment, offline_variables
from devtools.optimum.facts import read_sampling, read_spec
from shared.contracts.manifest import Lineage, Manifest, MemoryNeed, Seq2SeqSpec
from shared.errors import UnsupportedFormat
from shared.storage.scratch import scratch_folder

TOOL = "optimum"
_SCRIPT = Path(__file__).with_name("export_graphs.py")
_GRAPHS = ("encoder.onnx", "decoder.onnx")
_REFUSED = 3
"""The exit code of `export_graphs` where its last line is for a person."""

_log = structlog.get_logger("llmos.convert")


def convert_seq2seq(
    source: Path,
    destination: Path,
    environment: OptimumEnvironment,
    *,
    name: str = "",
    progress: Progress = no_progress,
) -> Manifest:
    """Write the version that the checkpoint in `source` describes into the folder `destination`.

    On any failure `destination` is as it was. No code of the checkpoint is executed.

    Args:
        source: config.json, safetensors and a tokenizer.
        destination: Made if need be.
        environment: Where optimum is installed.
        name: What the version is said to come from; the folder's name if empty.
        progress: Called with the stages read, build, check and finish.

    Raises:
        NotFound: optimum is not installed, or a file is missing.
        CorruptFile: A file is damaged, or contradicts another.
        UnsupportedFormat: A kind of model that is not exported; the message has the reason.
        StorageFull: No room for the files.
    """
    check_checkpoint(source)
    environment.require()
    digest = checkpoint_digest(source, progress)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(destination.parent, ".export-") as scratch, staged(destination) as folder:
        exported = scratch / "out"
        exported.mkdir()
        _run([str(environment.python), "-P", str(_SCRIPT), str(source.resolve()), str(exported)], scratch, progress)
        facts: dict[str, Any] = json.loads((exported / "facts.json").read_text(encoding="utf-8"))
        tokenizer = read_tokenizer(exported, vocab_size=facts["vocab_size"])
        spec = read_spec(facts, tokenizer)
        progress("check", 0.0)
        error = check_graphs(exported, spec, exported / "reference.npz")
        progress("check", 1.0)
        for path in sorted(exported.iterdir()):
            if path.name.startswith(_GRAPHS):
                path.replace(folder / path.name)
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        progress("finish", 0.5)
        manifest = Manifest(
            task="transcribe" if spec.speech else "generate",
            format="onnx-seq2seq",
            files=tuple(describe_file(path) for path in sorted(folder.iterdir())),
            seq2seq=spec,
            memory=memory_need(spec, sum(path.stat().st_size for path in folder.glob("*.onnx*"))),
            defaults=read_sampling(facts, spec),
            lineage=Lineage(
                source=name or source.resolve().name,
                source_digest=digest,
                tool=TOOL,
                quantization="float32",
                license=read_license(source),
            ),
            metrics={"output_error": error},
        )
    progress("finish", 1.0)
    beams = facts["generation"].get("num_beams", 1)
    if beams > 1:
        _log.warning("seq2seq.beams_not_used", num_beams=beams, served="greedy, or sampled as a request asks")
    _log.info("seq2seq.converted", source=manifest.lineage.source, bytes=manifest.size, output_error=error)
    return manifest


def memory_need(spec: Seq2SeqSpec, graph_bytes: int) -> MemoryNeed:
    """The need of a replica: each slot holds keys and values of its answer and of its source."""
    place = spec.kv_bytes_per_token
    speech = spec.speech is not None
    sources = place * spec.source_length if speech else 0
    longest = spec.source_length
    scores = 2 * spec.heads * longest * longest
    return MemoryNeed(
        weights=int(PACKED * graph_bytes),
        kv_per_token=place if speech else 2 * place,
        activations=4 * (scores + 16 * longest * spec.hidden_size) + sources,
        process=PROCESS,
        per_slot=4 * LOGITS_AT_ONCE * spec.vocab_size + sources,
        grammars=GRAMMARS + GRAMMAR_BYTES_PER_ID * spec.vocab_size,
    )


def _run(command: Sequence[str], scratch: Path, progress: Progress) -> None:
    errors = scratch / "stderr"
    with (
        errors.open("w", encoding="utf-8") as stderr,
        subprocess.Popen(  # noqa: S603  # our own program, by its path
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
            cwd=scratch,
            env=offline_variables(scratch),
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                _report(line, progress)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1][:500] if lines else f"exit code {process.returncode}"
        _log.warning("optimum.failed", code=process.returncode, last_lines=lines[-20:])
        prefix = "" if process.returncode == _REFUSED else "optimum can't export this checkpoint: "
        raise UnsupportedFormat(f"{prefix}{reason}", param="source")


def _report(line: str, progress: Progress) -> None:
    try:
        said = json.loads(line)
        stage, part = str(said["stage"]), float(said["part"])
    except (ValueError, KeyError, TypeError):  # libraries print what they like
        return
    progress(stage, part)
