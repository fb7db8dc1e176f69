"""Bring a model into the registry: convert, check, upload, make a version; with progress on every step."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from devtools.optimum.environment import FORMAT, OptimumEnvironment
from devtools.quantization import Quantize, conversion
from llmos.client import Client
from llmos.earlier_import import earlier_import
from llmos.hub import Hub
from llmos.hub_files import HubModel
from llmos.import_journal import ImportJournal
from llmos.progress import Progress
from shared.contracts.manifest import NAME_RULE, Lineage, Manifest, is_name
from shared.contracts.registry import ModelVersion
from shared.errors import Conflict, InvalidInput, UnsupportedFormat
from shared.storage.scratch import held, scratch_folder

WORK_PREFIX = "llmos-import-"
"""Of the folders, below that for temporary files, in which models are converted."""
_THROUGH_WEIGHTS = ("read", "build", "check", "finish")
"""Steps of a conversion."""


SOURCES = (
    "a .gguf file, a Hugging Face directory (config.json and safetensors; an encoder's may have model.onnx instead),"
    " hf:org/name, hf:org/name@revision or hf:org/name:Q4_K_M; with --task tensor an .onnx file"
)


class Imported(NamedTuple):
    """What an import led to."""

    version: ModelVersion
    unchanged: bool
    """Whether the source had this version before, and nothing was converted."""


class _Kind(NamedTuple):
    """What becomes of a source."""

    conversion: str
    """`Lineage.conversion`."""
    same: Callable[[Lineage], bool]
    """Whether a version came from the source."""
    find: Callable[[str], Path]
    """The file or folder of a source on this machine."""
    convert: Callable[[Path, Path, str, Progress], Manifest]
    """Takes that, the folder of the version, and where it came from if not from this machine."""


def import_model(
    client: Client,
    source: str,
    name: str,
    *,
    quantize: Quantize = "auto",
    cuda: bool = False,
    task: Literal["tensor"] | None = None,
    optimum: OptimumEnvironment | None = None,
    aliases: tuple[str, ...] = (),
    downloads: Path | None = None,
    journals: Path | None = None,
    force: bool = False,
    progress: Progress,
) -> Imported:
    """A new version of model `name`.

    Nothing is visible before the last step. The same source with the same options is not converted again: its
    version is the one that exists.

    Args:
        client: Of the gateway.
        source: A GGUF file, a Hugging Face directory, or `hf:org/name[@revision][:Q4_K_M]`.
        name: Of the model.
        quantize: For weights that are floats in the source; `auto` leaves a GGUF's as they are, and takes int4 for
            a directory's where the model stands it, else int8.
        cuda: Also make a graph for GPUs.
        task: `tensor` for an ONNX file with named tensors; else found out.
        optimum: Where optimum is installed, which converts the directory.
        aliases: Also pointed at the version.
        downloads: Where files from the hub lie until the import has succeeded, so that one that was cut off goes on;
            a temporary folder if None.
        journals: Folder of the journal, by which `llmos up` finds blobs that were uploaded for nothing; none if None.
        force: Convert the source again although it has a version. Only if the result differs is there a new one.
        progress: Called with every step.
    """
    _check_name("--name", name)
    for alias in aliases:
        _check_name("--alias", alias)
    client.models.list()  # a wrong URL or key fails here, before minutes of work
    kind = _kind(source, task, quantize, cuda=cuda, optimum=optimum)
    if not force and (existing := earlier_import(client, name, kind.conversion, kind.same)) is not None:
        for alias in aliases:
            client.models.set_alias(name, alias, existing.version)
        return Imported(client.models.version(existing.reference), unchanged=True)
    from devtools.convert import add_cuda_graph  # noqa: PLC0415  # other commands start without it

    with ExitStack() as stack:
        work = stack.enter_context(scratch_folder(Path(tempfile.gettempdir()), WORK_PREFIX))
        fetched, origin = None, ""
        if source.startswith("hf:"):
            model = HubModel.parse(source)
            fetched = (downloads or work) / f"{model.repository}@{model.revision}".replace("/", "--")
            try:
                stack.enter_context(held(fetched))
            except BlockingIOError as error:
                raise Conflict(f"{source} is being imported by another process; wait for its end") from error
            with Hub() as hub:
                arrived = hub.download(model, fetched, progress)
            path, origin = arrived.path, f"hf:{arrived.origin}"
        else:
            path = kind.find(source)
        in_bytes = _in_bytes(progress, path)
        manifest = kind.convert(path, work / "version", origin, in_bytes)
        if cuda:
            manifest = add_cuda_graph(work / "version", manifest)
        lineage = manifest.lineage.model_copy(update={"conversion": kind.conversion})
        manifest = manifest.model_copy(update={"lineage": lineage})
        if journals is not None:
            stack.enter_context(ImportJournal.opened(journals)).add(file.digest for file in manifest.files)
        client.models.upload(manifest, work / "version", progress)
        version = client.models.create(name, manifest, aliases)
        if fetched is not None:
            shutil.rmtree(fetched, ignore_errors=True)
    return Imported(version, unchanged=False)


def _kind(
    source: str,
    task: Literal["tensor"] | None,
    quantize: Quantize,
    *,
    cuda: bool,
    optimum: OptimumEnvironment | None,
) -> _Kind:
    """How `source` is converted; checks that the options go with one another."""
    if task == "tensor":
        return _tensor_kind(source, quantize, cuda=cuda, optimum=optimum)

    def convert(path: Path, destination: Path, origin: str, progress: Progress) -> Manifest:
        return _convert(path, destination, quantize, origin, optimum=optimum, progress=progress)

    if optimum is None:
        return _Kind(conversion(quantize, cuda=cuda), _same_source(source), _local_model, convert)
    _check_optimum(source, quantize, cuda=cuda)
    return _Kind(f"optimum, format {FORMAT}", _same_checkpoint(source), _local_model, convert)


def _tensor_kind(source: str, quantize: Quantize, *, cuda: bool, optimum: OptimumEnvironment | None) -> _Kind:
    from devtools.convert import CONVERSION, convert_tensor, tensor_digest  # noqa: PLC0415  # as below

    for option, given in (
        (f"--quantize {quantize}", quantize not in ("auto", "none")),
        ("--cuda", cuda),
        ("--with optimum", optimum is not None),
    ):
        if given:
            raise InvalidInput(
                f"a graph with named tensors is served as it is; leave {option} out",
                param=option.split()[0].removeprefix("--"),
            )
    path = _onnx_file(source)

    @cache
    def digest() -> str:
        return tensor_digest(path)

    return _Kind(
        CONVERSION,
        lambda lineage: lineage.source_digest == digest(),
        _onnx_file,
        lambda path, destination, _, progress: convert_tensor(path, destination, progress=progress),
    )


def _onnx_file(source: str) -> Path:
    """The ONNX file that `source` names; raises `InvalidInput` if there is none."""
    try:
        path = Path(source).expanduser()
        exists = path.is_file()
    except (RuntimeError, OSError, ValueError):  # a user without a home, a name that no system takes
        exists = False
    if not exists or path.suffix.lower() != ".onnx":
        raise InvalidInput(f"{source}: with --task tensor a file is expected that ends in .onnx", param="source")
    return path


def _same_source(source: str) -> Callable[[Lineage], bool]:
    """Whether a version came from what `source` is now. It is read, or the hub asked, when a version is compared."""

    @cache
    def digest() -> str:
        from devtools.convert import source_digest  # noqa: PLC0415  # other commands start without it

        return source_digest(_local_model(source))

    @cache
    def origin() -> str:
        with Hub() as hub:
            return f"hf:{hub.origin(HubModel.parse(source))}"

    if source.startswith("hf:"):
        return lambda lineage: lineage.source.startswith("hf:") and lineage.source == origin()
    return lambda lineage: lineage.source_digest == digest()


def _check_name(option: str, name: str) -> None:
    if not is_name(name):
        raise InvalidInput(f"{option} {name!r}: expected {NAME_RULE}", param=option.removeprefix("--"))


def _check_optimum(source: str, quantize: Quantize, *, cuda: bool) -> None:
    if source.startswith("hf:"):
        raise UnsupportedFormat(
            f"{source}: --with optimum takes a directory on this machine; download the model first", param="source"
        )
    if quantize not in ("auto", "none"):
        raise InvalidInput(
            f"models with an encoder and a decoder keep their weights as they are; --quantize {quantize} is for"
            " decoders",
            param="quantize",
        )
    if cuda:
        raise InvalidInput(
            "models with an encoder and a decoder have no graph for GPUs; leave --cuda out", param="cuda"
        )


def _same_checkpoint(source: str) -> Callable[[Lineage], bool]:
    """Whether a version came from the checkpoint `source`, which is checked first."""
    from devtools.optimum.checkpoint import check_checkpoint, checkpoint_digest  # noqa: PLC0415  # as above

    path = _local_model(source)
    check_checkpoint(path)

    @cache
    def digest() -> str:
        return checkpoint_digest(path)

    return lambda lineage: lineage.source_digest == digest()


def _convert(
    path: Path,
    destination: Path,
    quantize: Quantize,
    origin: str,
    *,
    optimum: OptimumEnvironment | None,
    progress: Progress,
) -> Manifest:
    from devtools.convert import (  # noqa: PLC0415  # other commands start without it
        convert_encoder,
        convert_gguf,
        convert_hf,
        is_encoder_directory,
    )

    if optimum is not None:
        from devtools.optimum.export import convert_seq2seq  # noqa: PLC0415  # as above

        return convert_seq2seq(path, destination, optimum, progress=progress)
    if path.is_file():
        return convert_gguf(path, destination, quantize=quantize, name=origin, progress=progress)
    if not is_encoder_directory(path):
        return convert_hf(path, destination, quantize=quantize, name=origin, progress=progress)
    if quantize not in ("auto", "none"):
        raise InvalidInput(
            f"encoders keep their weights as they are; --quantize {quantize} is for decoders", param="quantize"
        )
    return convert_encoder(path, destination, name=origin, progress=progress)


def _local_model(source: str) -> Path:
    """The GGUF or directory that `source` names.

    Raises:
        InvalidInput: There is nothing.
        UnsupportedFormat: It is something else.
    """
    from devtools.convert import is_encoder_directory, is_model_directory  # noqa: PLC0415  # as above

    try:
        path = Path(source).expanduser()
        exists = path.exists()
    except (RuntimeError, OSError, ValueError):  # a user without a home, a name that no system takes
        exists = False
    if not exists:
        raise InvalidInput(f"{source}: no such file or folder", param="source")
    if not (_is_gguf(path) or (path.is_dir() and (is_encoder_directory(path) or is_model_directory(path)))):
        raise UnsupportedFormat(f"{source}{_hint(path)}: expected {SOURCES}", param="source")
    return path


def _is_gguf(path: Path) -> bool:
    """Whether a file is a GGUF by its name."""
    return path.is_file() and path.suffix.lower() == ".gguf"


def _in_bytes(progress: Progress, source: Path) -> Progress:
    """For the steps that go once through the weights of `source`: how far in bytes of its files."""
    from devtools.convert.gguf.split import split_files  # noqa: PLC0415  # other commands start without it

    files = source.glob("*.safetensors") if source.is_dir() else split_files(source) if _is_gguf(source) else [source]
    total = sum(file.stat().st_size for file in files)

    def report(step: str, done: float, _total: int = 0, /) -> None:
        progress(step, done, total if step in _THROUGH_WEIGHTS else 0)

    return report


def _hint(path: Path) -> str:
    """What was probably meant by a path that is no model."""
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        return f" is a folder; name the file in it ({ggufs[0].name})" if ggufs else ""
    if path.suffix.lower() == ".onnx":
        return " is an ONNX file; serve its tensors with --task tensor, or name the folder of an encoder"
    if path.suffix == ".safetensors":
        return " is a part of a Hugging Face directory; name its folder"
    if ".gguf" in path.name.lower():
        return " is a piece of a file that was cut; join its pieces (cat PIECES > MODEL.gguf)"
    return ""
