"""Install clients, run them against an embedded system with the demo model, and print a line for each.

    python -m tests.clients [NAME ...] [--markdown]

The exit code is 0 if all were installed and answered.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.clients.environment import cache
from tests.clients.outcome import Outcome, Verdict, outcome
from tests.clients.program import Program, programs
from tests.support.harness.embedded import Embedded
from tests.support.models.tensor_graphs import write_linear

MODEL = "gpt-4o-mini"
"""The deployment: a name that is in the tables of clients which have some."""
TENSOR_MODEL = "linear"
"""The deployment of a graph with named tensors."""
_PASSED_ON = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE")
_HEAD = ("client", "version", "for", "asked", "", "answer, or why not")


def environment(system: Embedded) -> dict[str, str]:
    """What the programs find."""
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "NO_PROXY": "127.0.0.1",
        "LLMOS_URL": system.url,
        "LLMOS_GRPC": f"127.0.0.1:{system.grpc_port}",
        "LLMOS_API_KEY": system.key,
        "TENSOR_MODEL": TENSOR_MODEL,
        "MODEL": MODEL,
        "OPENAI_BASE_URL": f"{system.url}/v1",
        "OPENAI_API_BASE": f"{system.url}/v1",  # its older name, which llama-index reads
        "OPENAI_API_KEY": system.key,
        "ANTHROPIC_BASE_URL": system.url,
        "ANTHROPIC_API_KEY": system.key,
        "OLLAMA_HOST": system.url,
        "OLLAMA_API_KEY": system.key,
    }


def line(fields: Iterable[str], *, markdown: bool) -> str:
    """A row."""
    cells = list(fields)
    if markdown:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    name, version, language, asked, verdict, said = cells
    return f"{name:<18} {version:<9} {language:<8} {verdict}: {asked} → {said}"


def chosen(names: list[str]) -> list[Program]:
    """The programs of these files; all, if there are none."""
    known = programs()
    files = {program.path.name for program in known}
    if missing := [name for name in names if name not in files]:
        sys.exit(f"there is no {missing[0]}; programs: {', '.join(sorted(files))}")
    return [program for program in known if not names or program.path.name in names]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="files of tests/clients/programs; default: all")
    parser.add_argument("--markdown", action="store_true", help="print a table for the documentation")
    given = parser.parse_args()
    asked, outcomes = chosen(given.names), list[Outcome]()
    with tempfile.TemporaryDirectory() as folder, Embedded(Path(folder), demo=True) as system:
        graph = write_linear(Path(folder) / "linear.onnx")
        for words in (
            ("deploy", "smollm2", "--name", MODEL),
            ("model", "import", str(graph), "--name", TENSOR_MODEL, "--task", "tensor"),
            ("deploy", TENSOR_MODEL),
        ):
            done = system.cli(*words)
            if done.returncode:
                sys.exit(done.stderr)
        if given.markdown:
            print(line(_HEAD, markdown=True), "|---" * len(_HEAD) + "|", sep="\n")
        for program in asked:
            outcomes.append(outcome(program, environment(system), cache()))
            print(line(outcomes[-1].fields, markdown=given.markdown), flush=True)
    counts = {verdict: sum(each.verdict is verdict for each in outcomes) for verdict in Verdict}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count), file=sys.stderr)
    return int(counts[Verdict.OK] != len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
