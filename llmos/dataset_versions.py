"""Bring rows into the registry: read, check, upload, make a version; and get the rows of a version."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.client import Client
from llmos.import_journal import ImportJournal
from llmos.progress import Progress
from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import NAME_RULE, is_name
from shared.contracts.registry import DatasetVersion
from shared.errors import InvalidInput
from shared.storage.scratch import scratch_folder

if TYPE_CHECKING:
    from devtools.data.block_source import Input
    from devtools.data.check_files import Report
    from devtools.data.executors import Executor
    from devtools.data.length import Tokenizer
    from devtools.data.recipe import Recipe
    from devtools.data.version import Imported

WORK_PREFIX = "llmos-data-"
"""Of the folders, below that for temporary files, in which rows are prepared."""


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder that is removed at the end."""
    with scratch_folder(Path(tempfile.gettempdir()), WORK_PREFIX) as folder:
        yield folder


def check_name(name: str, option: str = "--name") -> None:
    """Raise InvalidInput unless `name` can be the name of a dataset, or an alias."""
    if not is_name(name):
        raise InvalidInput(f"{option} {name!r}: expected {NAME_RULE}", param=option.lstrip("-"))


def import_rows(
    client: Client,
    sources: Sequence[Path],
    name: str,
    *,
    form: str | None = None,
    skip_broken: bool = False,
    license: str | None = None,  # noqa: A002  # the manifest's word
    statement: str | None = None,
    aliases: tuple[str, ...] = (),
    journals: Path | None = None,
    progress: Progress,
) -> "tuple[DatasetVersion, Imported]":
    """A new version of dataset `name` with the rows of files. The same files again answer the version that exists."""
    check_name(name)
    for alias in aliases:
        check_name(alias, "--alias")
    from devtools.data.files import check_file  # noqa: PLC0415  # other commands start without it
    from devtools.data.forms import check_form  # noqa: PLC0415
    from devtools.data.version import import_files  # noqa: PLC0415

    for source in sources:
        check_file(source)
    check_form(form)
    client.datasets.list()  # a wrong URL or key fails here, before minutes of work

    with work_folder() as folder:
        imported = import_files(
            sources,
            folder,
            form=form,
            skip_broken=skip_broken,
            license=license,
            statement=statement,
            progress=progress,
        )
        version = publish(
            client, name, imported.manifest, folder, aliases=aliases, journals=journals, progress=progress
        )
    return version, imported


def publish(
    client: Client,
    name: str,
    manifest: DatasetManifest,
    folder: Path,
    *,
    progress: Progress,
    aliases: tuple[str, ...] = (),
    journals: Path | None = None,
) -> DatasetVersion:
    """Upload what is in `folder` and make it a version."""
    with ImportJournal.opened(journals) if journals is not None else nullcontext() as journal:
        if journal is not None:
            journal.add(file.digest for file in manifest.files)
        client.datasets.upload(manifest, folder, progress)
        return client.datasets.create(name, manifest, aliases)


def fetch(client: Client, reference: str, folder: Path, progress: Progress, *, share: float = 1.0) -> "Input":
    """A version with its files in a folder below `folder`."""
    version = client.datasets.version(reference)
    from devtools.data.block_source import Input  # noqa: PLC0415

    target = folder / f"{version.name}-{version.version}"
    client.datasets.download(version.manifest, target, progress)
    return Input(target, version.manifest, version.digest, share)


def find_tokenizer(client: Client | None, given: str, folder: Path) -> "Tokenizer":
    """A tokenizer.json, or that of a model's version.

    Raises:
        InvalidInput: Neither of both.
    """
    from devtools.data.length import Tokenizer  # noqa: PLC0415

    path = Path(given).expanduser()
    if path.is_dir():
        path /= "tokenizer.json"
    if path.is_file():
        return Tokenizer.from_file(path)
    if client is None or given.endswith(".json"):
        raise InvalidInput(f"--tokenizer {given}: no such file", param="tokenizer")
    files = {file.path: file.digest for file in client.models.version(given).manifest.files}
    if "tokenizer.json" not in files:
        raise InvalidInput(f"--tokenizer {given}: this version has no tokenizer.json", param="tokenizer")
    client.blobs.download(files["tokenizer.json"], folder / "tokenizer.json", lambda _: None)
    return Tokenizer.from_file(folder / "tokenizer.json")


@dataclass(frozen=True, slots=True)
class Classifier:
    """Labels of texts by a deployment; it travels to other processes.

    url, api_key: of the gateway
    model: the deployment
    """

    url: str
    api_key: str = field(repr=False)
    model: str

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
        with Client(self.url, self.api_key) as client:
            return client.classify(self.model, texts)


def prepare_rows(
    client: Client,
    references: Sequence[str],
    name: str,
    recipe: "Recipe",
    *,
    executor: "Executor",
    tokenizer: str | None = None,
    classify: "Classifier | None" = None,
    aliases: tuple[str, ...] = (),
    journals: Path | None = None,
    progress: Progress,
) -> DatasetVersion:
    """A new version of dataset `name`, of the rows of others.

    Args:
        client: Of the gateway.
        references: The dataset, and those that the recipe means by their numbers.
        name: Of the result.
        recipe: What is done.
        executor: Where it is done.
        tokenizer: A file or a model's version; counts tokens.
        classify: Finds persons in sentences.
        aliases: Also pointed at the version.
        journals: Folder of the journal of uploads.
        progress: Called with every step.
    """
    check_name(name)
    for alias in aliases:
        check_name(alias, "--alias")
    recipe.verify(tokenizer=tokenizer is not None, classify=classify)
    from devtools.data.pipeline import prepare  # noqa: PLC0415  # other commands start without it

    with work_folder() as folder:
        given = [fetch(client, reference, folder / "inputs", progress) for reference in references]
        counts = find_tokenizer(client, tokenizer, folder) if tokenizer else None
        inputs, plan = recipe.plan(given, tokenizer=counts, classify=classify)
        manifest = prepare(inputs, plan, folder / "version", executor=executor, progress=progress)
        return publish(
            client, name, manifest, folder / "version", aliases=aliases, journals=journals, progress=progress
        )


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What to look for.

    form: of files
    max_tokens, max_characters: of a row; 0 for no limit
    tokenizer: a file or a model's version
    near: similarity of near-duplicates; 0: not looked for
    against: references of suites
    regions: whose national phone numbers count
    """

    form: str | None = None
    max_tokens: int = 0
    max_characters: int = 0
    tokenizer: str | None = None
    near: float = 0.7
    against: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    @property
    def needs_gateway(self) -> bool:
        """Whether something of the registry is asked for."""
        return bool(self.against) or bool(self.tokenizer and not Path(self.tokenizer).expanduser().exists())


def check_rows(client: Client | None, sources: Sequence[str], request: CheckRequest, progress: Progress) -> "Report":
    """Findings about the rows of files, or of one version.

    Args:
        client: Of the gateway; None: nothing of the registry is needed.
        sources: Files, or one reference.
        request: What to look for.
        progress: Called now and then.
    """
    if request.max_tokens and not request.tokenizer:
        raise InvalidInput("--max-tokens needs --tokenizer: tokens are counted by one", param="tokenizer")
    from devtools.data.check import Limits  # noqa: PLC0415  # other commands start without it
    from devtools.data.check_files import check_files  # noqa: PLC0415
    from devtools.data.files import SUFFIXES  # noqa: PLC0415
    from devtools.data.forms import check_form  # noqa: PLC0415
    from devtools.data.look import rows_of  # noqa: PLC0415
    from devtools.data.near import NearDuplicates  # noqa: PLC0415
    from devtools.data.overlap import index_of  # noqa: PLC0415
    from devtools.data.private import check_regions  # noqa: PLC0415

    check_form(request.form)
    check_regions(request.regions)
    with work_folder() as folder:
        paths = [Path(source) for source in sources]
        missing = [path for path in paths if not path.is_file()]
        if missing and (len(sources) != 1 or missing[0].name.lower().endswith(SUFFIXES)):
            raise InvalidInput(f"{missing[0]}: no such file; give files, or one dataset", param="source")
        if missing:
            assert client is not None
            version = fetch(client, sources[0], folder, progress)
            paths = [version.folder / file.path for file in version.manifest.files]
        suites = {}
        for reference in request.against:
            assert client is not None
            suite = fetch(client, reference, folder, progress)
            suites[reference] = index_of(rows_of(suite.folder, suite.manifest))
        limits = Limits(
            max_characters=request.max_characters,
            max_tokens=request.max_tokens,
            tokenizer=find_tokenizer(client, request.tokenizer, folder) if request.tokenizer else None,
            regions=request.regions,
            suites=suites,
        )
        near = NearDuplicates(request.near) if request.near else None
        return check_files(paths, folder, form=request.form, limits=limits, near=near, progress=progress)


def export_rows(client: Client, reference: str, folder: Path, form: str, progress: Progress) -> list[Path]:
    """Write the rows of a version to `folder`; the files that were written."""
    from devtools.data.export import write_openai, write_parquet  # noqa: PLC0415  # other commands start without it
    from devtools.data.look import rows_of  # noqa: PLC0415

    with work_folder() as work:
        version = fetch(client, reference, work, progress)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        if form == "rows":
            for file in version.manifest.files:
                shutil.copyfile(version.folder / file.path, folder / file.path)
                written.append(folder / file.path)
            return written
        for split in version.manifest.splits:
            if form == "openai":
                written.append(folder / f"{split}.jsonl")
                write_openai(written[-1], rows_of(version.folder, version.manifest, split))
            else:
                written.append(folder / f"{split}.parquet")
                shards = [file.path for file in version.manifest.files if file.path.rsplit("-", 1)[0] == split]
                write_parquet(written[-1], [version.folder / shard for shard in shards], version.manifest.rows)
        return written
