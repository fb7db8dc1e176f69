"""Attack a fresh LLMOS: `python -m benchmarks.attack [--only WORD …] [--markdown]`.

Starts `llmos up` in a temporary home with the demo's model, and runs one attack after the other. A row says how it
was answered, how late the gateway's event loop was meanwhile (the time of `/healthz`, which does nothing; `p99`, and
the most), what memory the gateway and the replica took beyond what they had, and what a quiet tenant felt, which
chats all the time. Exit code 1 if an attack was not held.
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.attack import before_a_key, in_a_file, on_the_bus, with_a_key
from benchmarks.attack.target import Attack, Outcome, Target
from benchmarks.attack.watch import Felt, watching
from benchmarks.processor import processor_name
from benchmarks.serving.figures import milliseconds, quantile
from benchmarks.serving.sides import Llmos, Shape, llmos
from devtools.convert import convert_gguf
from llmos.cli.demo import demo_gguf
from llmos.client import Client
from llmos.home import Home
from shared.telemetry.logs import configure_logs

GROUPS: dict[str, tuple[Attack, ...]] = {
    "before a key": before_a_key.ATTACKS,
    "with a key": with_a_key.ATTACKS,
    "on the bus": on_the_bus.ATTACKS,
    "in a file": in_a_file.ATTACKS,
}
SHAPE = Shape(slots=8, max_len=2048)
COLUMNS = ("attack", "answer", "held", "loop p99 ms", "loop max ms", "memory MB", "quiet: failed", "p50 s", "max s")


def main() -> None:
    """Attack, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="attacks whose names have one of these words")
    parser.add_argument("--markdown", action="store_true", help="print a table at the end")
    arguments = parser.parse_args()
    configure_logs("console", "warning", service="benchmark")  # to stderr: stdout is for figures
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped on the way out
    print(json.dumps({"benchmark": "attack", "cpu": processor_name()}), flush=True)
    with tempfile.TemporaryDirectory(prefix="llmos-attack-") as folder:
        rows = _run(Path(folder), arguments.only)
    if arguments.markdown:
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for row in rows:
            print(f"| {' | '.join(str(row[column]) for column in COLUMNS)} |")
    sys.exit(not all(row["held"] for row in rows))


def _run(folder: Path, words: list[str] | None) -> list[dict[str, object]]:
    manifest = convert_gguf(demo_gguf(), folder / "version")
    home = Home.at(folder / "home")
    rows = []
    with llmos(home.root, manifest, folder / "version") as system, system.serving(SHAPE) as client:
        target = _target(home, system, client.model)
        processes = {name: target.process(f"services.{name}") for name in ("gateway", "inference.replica")}
        for group, attacks in GROUPS.items():
            for attack in attacks:
                name = attack.__name__
                if words and not any(word in name for word in words):
                    continue
                with watching(target, processes) as felt:
                    outcome = _attack(attack, target)
                rows.append(_row(name, outcome, felt))
                print(json.dumps({"group": group} | rows[-1]), flush=True)
    return rows


def _target(home: Home, system: Llmos, model: str) -> Target:
    state = home.system()
    assert state is not None
    admin = Client(state.url, home.admin_key() or "")
    return Target(home, state.url, state.nats_url, model, system.key("attacker"), system.key("quiet"), admin)


def _attack(attack: Attack, target: Target) -> Outcome:
    try:
        return attack(target)
    except Exception as error:  # noqa: BLE001  # the next attack runs all the same
        return Outcome(f"{type(error).__name__}: {error}"[:120], held=False)


def _row(name: str, outcome: Outcome, felt: Felt) -> dict[str, object]:
    grown = ", ".join(f"{who} {(most - before) / 1e6:+.0f}" for who, (before, most) in felt.memory.items())
    return {
        "attack": name.replace("_", " "),
        "answer": outcome.answer,
        "held": outcome.held,
        "loop p99 ms": milliseconds(quantile(felt.lag, 0.99)),
        "loop max ms": milliseconds(max(felt.lag, default=0.0)),
        "memory MB": grown,
        "quiet: failed": felt.failed,
        "p50 s": round(quantile(felt.chats, 0.5), 2),
        "max s": round(max(felt.chats, default=0.0), 2),
    }


if __name__ == "__main__":
    main()
