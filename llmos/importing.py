"""Bring a model into the registry: convert, check, upload, make a version; with progress on every step."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from devtools.quantization import Quantize
from llmos.client import Client
from llmos.hub import Hub, HubModel
from llmos.import_journal import ImportJournal
from llmos.progress import Progress
from shared.contracts.manifest import NAME_RULE, Manifest, is_name
from shared.contracts.registry import ModelVersion
from shared.errors import Conflict, InvalidInput, UnsupportedFormat
from shared.storage.scratch import held, scratch_folder

WORK_PREFIX = "llmos-import-"
"""Of the folders, below that for temporary files, in which models are converted."""
_THROUGH_WEIGHTS = ("read", "build", "check", "finish")
"""Steps of a conversion."""


SOURCES = (
    "a .gguf file, a Hugging Face directory (config.json and safetensors; an encoder's may have model.onnx instead),"
    " hf:org/name or hf:org/name@revision"
)


def import_model(
    client: Client,
    source: str,
    name: str,
    *,
    quantize: Quantize = "auto",
    cuda: bool = False,
    aliases: tuple[str, ...] = (),
    downloads: Path | None = None,
    journals: Path | None = None,
    progress: Progress,
) -> ModelVersion:
    """A new version of model `name`.

    Nothing is visible before the last step, and the same source again answers the version that exists.

    Args:
        client: Of the gateway.
        source: A GGUF file, a Hugging Face directory, or `hf:org/name[@revision]`.
        name: Of the model.
        quantize: For weights that are floats in the source; `auto` leaves a GGUF's as they are, and takes int4 for
            a directory's where the model stands it, else int8.
        cuda: Also make a graph for GPUs.
        aliases: Also pointed at the version.
        downloads: Where files from the hub lie until the import has succeeded, so that one that was cut off goes on;
            a temporary folder if None.
        journals: Folder of the journal, by which `llmos up` finds blobs that were uploaded for nothing; none if None.
        progress: Called with every step.
    """
    _check_name("--name", name)
    for alias in aliases:
        _check_name("--alias", alias)
    client.models.list()  # a wrong URL or key fails here, before minutes of work
    from devtools.convert import add_cuda_graph, convert_hf  # noqa: PLC0415  # other commands start without it

    with ExitStack() as stack:
        work = stack.enter_context(scratch_folder(Path(tempfile.gettempdir()), WORK_PREFIX))
        if source.startswith("hf:"):
            model = HubModel.parse(source)
            fetched = (downloads or work) / f"{model.repository}@{model.revision}".replace("/", "--")
            try:
                stack.enter_context(held(fetched))
            except BlockingIOError as error:
                raise Conflict(f"{source} is being imported by another process; wait for its end") from error
            with Hub() as hub:
                origin = f"hf:{hub.download(model, fetched, progress)}"
            manifest = convert_hf(
                fetched, work / "version", quantize=quantize, name=origin, progress=_in_bytes(progress, fetched)
            )
        else:
            fetched = None
            manifest = _convert_local(source, work / "version", quantize, progress)
        if cuda:
            manifest = add_cuda_graph(work / "version", manifest)
        if journals is not None:
            stack.enter_context(ImportJournal.opened(journals)).add(file.digest for file in manifest.files)
        client.models.upload(manifest, work / "version", progress)
        version = client.models.create(name, manifest, aliases)
        if fetched is not None:
            shutil.rmtree(fetched, ignore_errors=True)
    return version


def _check_name(option: str, name: str) -> None:
    if not is_name(name):
        raise InvalidInput(f"{option} {name!r}: expected {NAME_RULE}", param=option.removeprefix("--"))


def _convert_local(source: str, destination: Path, quantize: Quantize, progress: Progress) -> Manifest:
    from devtools.convert import (  # noqa: PLC0415  # other commands start without it
        convert_encoder,
        convert_gguf,
        convert_hf,
        is_encoder_directory,
        is_model_directory,
    )

    try:
        path = Path(source).expanduser()
        exists = path.exists()
    except (RuntimeError, OSError, ValueError):  # a user without a home, a name that no system takes
        exists = False
    if not exists:
        raise InvalidInput(f"{source}: no such file or folder", param="source")
    progress = _in_bytes(progress, path)
    if path.is_dir() and is_encoder_directory(path):
        if quantize not in ("auto", "none"):
            raise InvalidInput(
                f"encoders keep their weights as they are; --quantize {quantize} is for decoders", param="quantize"
            )
        return convert_encoder(path, destination, progress=progress)
    if path.is_dir() and is_model_directory(path):
        return convert_hf(path, destination, quantize=quantize, progress=progress)
    if path.is_file() and path.suffix.lower() == ".gguf":
        return convert_gguf(path, destination, quantize=quantize, progress=progress)
    raise UnsupportedFormat(f"{source}{_hint(path)}: expected {SOURCES}", param="source")


def _in_bytes(progress: Progress, source: Path) -> Progress:
    """For the steps that go once through the weights of `source`: how far in bytes of its files."""
    from devtools.convert.gguf.split import split_files  # noqa: PLC0415  # other commands start without it

    files = source.glob("*.safetensors") if source.is_dir() else split_files(source)
    total = sum(file.stat().st_size for file in files)

    def report(step: str, done: float, _total: int = 0, /) -> None:
        progress(step, done, total if step in _THROUGH_WEIGHTS else 0)

    return report


def _hint(path: Path) -> str:
    """What was probably meant by a path that is no model."""
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        return f" is a folder; name the file in it ({ggufs[0].name})" if ggufs else ""
    if path.suffix == ".safetensors":
        return " is a part of a Hugging Face directory; name its folder"
    if ".gguf" in path.name.lower():
        return " is a piece of a file that was cut; join its pieces (cat PIECES > MODEL.gguf)"
    return ""
