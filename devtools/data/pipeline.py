"""Preparation: rows of versions through steps to the rows of a new version.

Steps run in stages. A stage ends with a step that looks at all rows (equal rows, near-duplicates, balance): its
decision is applied when the next stage reads the rows. The order of rows, and so the digest, depends on the rows and
the steps only, not on where blocks are worked on.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from devtools.data.block_source import BlockSource, Input, InputBlocks, StageBlocks
from devtools.data.check import Limits, Tally
from devtools.data.columns import Columns
from devtools.data.executors import Executor, Here
from devtools.data.length import Tokenizer
from devtools.data.row_file import RowFile
from devtools.data.split import Split
from devtools.data.stage import DROPPED, Block, Count, Output, Stage
from devtools.data.steps import AnyStep, Flags, RowStep, WholeStep, parameters_of
from devtools.data.version import Progress, Shards
from shared.contracts.dataset import DatasetManifest, Step
from shared.errors import InvalidInput

Files = TypeVar("Files", RowFile, Columns)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to the rows, in this order.

    steps: on rows, or on all rows
    split: at the end
    tokenizer: counts the tokens of the result
    limits: of the check of the result
    """

    steps: Sequence[AnyStep] = ()
    split: Split | None = None
    tokenizer: Tokenizer | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def stages(self) -> int:
        """How often the rows are read."""
        return 1 + sum(not isinstance(step, RowStep) for step in self.steps)


def prepare(
    inputs: Sequence[Input],
    plan: Plan,
    folder: Path,
    *,
    executor: Executor | None = None,
    progress: Progress = lambda _step, _done: None,
) -> DatasetManifest:
    """Write the rows of a new version to `folder`, and describe it.

    Raises:
        InvalidInput: Inputs of two kinds; no row is left.
    """
    kinds = {one.manifest.rows for one in inputs}
    if len(kinds) != 1:
        raise InvalidInput(f"the datasets are of two kinds: {', '.join(sorted(kinds))}; prepare each", param="mix")
    for one in inputs:
        if not 0 < one.share <= 1:
            raise InvalidInput(f"mix: a share is above 0 and at most 1, not {one.share:g}", param="mix")
    run = _Run(work_folder(folder), executor or Here(), progress)
    run.folder.mkdir()
    try:
        return run.prepare(inputs, plan, folder, kinds.pop())
    finally:
        run.clean()


def work_folder(folder: Path) -> Path:
    """Where rows lie between the stages while a version is prepared in `folder`."""
    return folder.parent / f".{folder.name}.work"


class _Run:
    """The state of one preparation."""

    def __init__(self, folder: Path, executor: Executor, progress: Progress) -> None:
        self.folder = folder
        self._executor = executor
        self._progress = progress
        self._records: list[Step] = []
        self._stack = ExitStack()

    def prepare(self, inputs: Sequence[Input], plan: Plan, folder: Path, kind: str) -> DatasetManifest:
        stages, last = _stages(plan)
        source: BlockSource = InputBlocks(inputs)
        file: RowFile | None = None
        for number, stage in enumerate(stages):
            made = self._opened(RowFile(self.folder / f"stage-{number}.jsonl"))
            columns = self._opened(Columns(self.folder))
            samples = [Count() for _ in inputs]
            counts = [Count() for _ in stage.steps]
            for block, output in self._outputs(stage, source, _title(stage)):
                made.append(output.lines.get(block.split, b""), block.split)
                columns.append(output.columns, output.rows)
                _add(counts, output.counts)
                samples[block.source].add(output.sampled)
            self._record(inputs if number == 0 else (), samples, stage.steps, counts)
            assert stage.whole is not None
            stays = stage.whole.decide(columns, made.row)
            self._record_whole(stage.whole, stays, made)
            columns.close()
            if file is not None:
                file.close()
            file, source = made, StageBlocks(made, stays)
        manifest = self._write(inputs, last, source, folder, first=not stages)
        if file is not None:
            file.close()
        assert manifest.rows == kind
        return manifest

    def _write(
        self, inputs: Sequence[Input], stage: Stage, source: BlockSource, folder: Path, *, first: bool
    ) -> DatasetManifest:
        samples = [Count() for _ in inputs]
        counts = [Count() for _ in stage.steps]
        tally, ids, tokens = Tally(), array("Q"), 0
        rows_in = rows_out = 0
        with Shards(folder) as shards:
            shards.is_of(inputs[0].manifest.rows, "")
            for block, output in self._outputs(stage, source, _title(stage)):
                for split, lines in output.lines.items():
                    for line in lines.splitlines(keepends=True):
                        shards.write_line(line, split)
                _add(counts, output.counts)
                samples[block.source].add(output.sampled)
                tally.merge(output.tally)
                ids.frombytes(output.ids)
                tokens += output.tokens
                rows_in += output.rows
                rows_out += output.rows
        self._record(inputs if first else (), samples, stage.steps, counts)
        if stage.split is not None:
            self._records.append(
                Step(
                    name=stage.split.name,
                    version=stage.split.version,
                    parameters=dict(stage.split.parameters),
                    rows_in=rows_in,
                    rows_out=rows_out,
                )
            )
        if not rows_out:
            raise InvalidInput("the steps leave no row; see how many each drops with fewer of them", param="steps")
        tally.add_repeated("duplicate", ids, lambda index: f"{ids[index]:016x}")
        return shards.manifest(
            parents=[one.digest for one in inputs],
            steps=self._records,
            findings=tally.findings(),
            tokens={stage.tokenizer.digest: tokens} if stage.tokenizer is not None else {},
            license=_licence(inputs),
            statement=inputs[0].manifest.statement,
        )

    def _outputs(self, stage: Stage, source: BlockSource, title: str) -> Iterator[tuple[Block, Output]]:
        """Each block, without its lines, with its output."""
        blocks: list[Block] = []
        done = 0

        def noted() -> Iterator[Block]:
            for block in source.blocks():
                blocks.append(Block(b"", block.split, source=block.source))
                sizes.append(len(block.lines))
                yield block

        sizes: list[int] = []
        for number, output in enumerate(self._executor.run(stage, noted())):
            done += sizes[number]
            self._progress(title, min(1.0, done / max(1, source.size)))
            yield blocks[number], output
        self._progress(title, 1.0)

    def _record(
        self, inputs: Sequence[Input], samples: Sequence[Count], steps: Sequence[RowStep], counts: Sequence[Count]
    ) -> None:
        for one, sampled in zip(inputs, samples[: len(inputs)], strict=True):
            if one.share < 1:
                parameters = {"dataset": one.digest, "share": one.share}
                self._records.append(
                    Step(name="mix", parameters=parameters, rows_in=sampled.rows_in, rows_out=sampled.rows_out)
                )
        for step, count in zip(steps, counts, strict=True):
            self._records.append(
                Step(
                    name=step.name,
                    version=step.version,
                    parameters=parameters_of(step),
                    rows_in=count.rows_in,
                    rows_out=count.rows_out,
                    changed=count.changed,
                    dropped=tuple(count.dropped),
                )
            )

    def _record_whole(self, step: WholeStep, stays: Flags, rows: RowFile) -> None:
        dropped = (~stays).nonzero()[0]
        self._records.append(
            Step(
                name=step.name,
                version=step.version,
                parameters=parameters_of(step),
                rows_in=len(stays),
                rows_out=len(stays) - len(dropped),
                dropped=tuple(rows.row(int(index)).id for index in dropped[:DROPPED]),
            )
        )

    def _opened(self, files: Files) -> Files:
        self._stack.callback(files.close)
        return files

    def clean(self) -> None:
        """Remove what lies between the stages."""
        self._stack.close()
        for path in self.folder.iterdir():
            path.unlink()
        with suppress(OSError):
            self.folder.rmdir()


def _stages(plan: Plan) -> tuple[list[Stage], Stage]:
    """The stages that end with a whole step, and the last one."""
    stages: list[Stage] = []
    steps: list[RowStep] = []
    for step in plan.steps:
        if isinstance(step, RowStep):
            steps.append(step)
        else:
            stages.append(Stage(steps=tuple(steps), whole=step))
            steps = []
    return stages, Stage(tuple(steps), split=plan.split, tokenizer=plan.tokenizer, limits=plan.limits)


def _title(stage: Stage) -> str:
    if stage.whole is not None:
        return stage.whole.name
    return "write"


def _add(totals: Sequence[Count], counts: Sequence[Count]) -> None:
    for total, count in zip(totals, counts, strict=True):
        total.add(count)


def _licence(inputs: Sequence[Input]) -> str | None:
    """Of all inputs that have one, in the order of the inputs."""
    found = list(dict.fromkeys(one.manifest.license for one in inputs if one.manifest.license))
    return " AND ".join(found) or None
