"""Make faults under load: `python -m benchmarks.faults [--only WORD …] [--seconds 40] [--markdown]`.

Starts `llmos up` with the demo's model on a disk of 600 MB that is mounted for it (as root), chats with it all the
time, and makes one fault after the other, each for some seconds. A row says how many of the chats failed, after how
many seconds all was whole again (after the fault ended; after it began, where only LLMOS can end it), and what
`llmos status` and the failed requests said meanwhile. Exit code 1 if the system was not whole again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.faults.faults import FAULTS, Fault
from benchmarks.faults.load import under_load
from benchmarks.faults.system import System, small_disk, system, until
from benchmarks.processor import processor_name
from llmos.cli.demo import NAME
from shared.telemetry.logs import configure_logs

DISK = 600 << 20
WHOLE_S = 240.0
STATUS_AFTER_S = 10.0
"""Into the fault, or half of it."""
_ODD = re.compile(r"not ready|silent|unresponsive|stopped|unknown|error|failed|loading|starting|unreachable|can't")
COLUMNS = ("fault", "chats", "failed", "whole after s", "llmos status", "a failed chat")


def main() -> None:
    """Make the faults, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="faults whose names have one of these words")
    parser.add_argument("--seconds", type=float, default=40.0, help="that a fault lasts; 60 for what is stopped")
    parser.add_argument("--markdown", action="store_true", help="print a table at the end")
    arguments = parser.parse_args()
    configure_logs("console", "warning", service="benchmark")  # to stderr: stdout is for figures
    print(json.dumps({"benchmark": "faults", "cpu": processor_name(), "cores": os.cpu_count()}), flush=True)
    chosen = [one for one in FAULTS if not arguments.only or any(word in one.name for word in arguments.only)]
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="llmos-faults-") as folder,
        small_disk(Path(folder) / "disk", DISK) as disk,
        system(disk / "home") as running,
    ):
        for fault in chosen:
            rows.append(suffer(running, fault, arguments.seconds))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.markdown:
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for row in rows:
            print(f"| {' | '.join(str(row[column]).replace('|', '/') for column in COLUMNS)} |")
    sys.exit(not all(row["whole after s"] is not None for row in rows))


def suffer(running: System, fault: Fault, seconds: float) -> dict[str, object]:
    """Make the fault for so many seconds under load; the row of the table."""
    if running.replicas != fault.replicas:
        running.scale(fault.replicas)
    until(running.whole, WHOLE_S, "whole before the fault")
    with under_load(running.url, running.key, NAME) as load:
        time.sleep(2)
        begun = time.monotonic()
        with fault.make(running):
            time.sleep(min(STATUS_AFTER_S, seconds / 2))
            said = odd_lines(running)
            if fault.ends:
                time.sleep(max(0.0, begun + seconds - time.monotonic()))
                begun = time.monotonic()
            else:
                whole = _whole_after(running, begun)
        if fault.ends:
            whole = _whole_after(running, begun)
    return {
        "fault": fault.name,
        "chats": len(load.chats),
        "failed": len(load.failed),
        "whole after s": whole,
        "llmos status": said,
        "a failed chat": load.messages[0] if load.messages else "",
    }


def odd_lines(running: System) -> str:
    """What `llmos status` says that it does not say of a system that is well."""
    try:
        done = running.cli("status")
    except subprocess.TimeoutExpired:
        return "no answer"
    lines = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()]
    return "; ".join(line for line in lines if _ODD.search(line)) or "all is ready"


def _whole_after(running: System, begun: float) -> float | None:
    try:
        until(running.whole, WHOLE_S, "whole")
    except TimeoutError:
        return None
    return round(time.monotonic() - begun, 1)


if __name__ == "__main__":
    main()
