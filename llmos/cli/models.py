"""`llmos model …`: bring models in, list, show, alias, delete, collect garbage."""

import signal
from pathlib import Path
from typing import Annotated, Literal

import typer

from devtools.optimum.environment import OptimumEnvironment
from devtools.quantization import Quantize
from llmos.cli.options import HomeOption, JsonOption, KeyOption, UrlOption
from llmos.cli.output import print_json, progress_bars, say, size
from llmos.cli.version_table import print_versions
from llmos.config import Target
from llmos.exporting import Format, export_model
from llmos.importing import SOURCES, import_model
from llmos.lineage import lineage_lines
from shared.contracts.manifest import Manifest
from shared.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Bring models in, list, show and name their versions.")


@app.command("import", epilog="Example: llmos model import ./SmolLM2-135M-Instruct.Q4_1.gguf --name smollm2")
def import_(
    source: Annotated[str, typer.Argument(help=f"{SOURCES[0].upper()}{SOURCES[1:]}.")],
    name: Annotated[
        str, typer.Option("--name", help="Name of the model; what differs from its versions is a new one.")
    ],
    alias: Annotated[list[str] | None, typer.Option("--alias", help="Also point this alias at it.")] = None,
    quantize: Annotated[
        Quantize,
        typer.Option(
            help="What becomes of weights that are floats. auto: a directory's to int4 where the model stands it,"
            " else int8; a GGUF's stay as they are."
        ),
    ] = "auto",
    converter: Annotated[
        Literal["optimum"] | None,
        typer.Option(
            "--with",
            help="Convert with a tool that 'llmos tool install' has installed. optimum: T5, BART, Marian, Whisper.",
        ),
    ] = None,
    task: Annotated[
        Literal["tensor"] | None,
        typer.Option(
            "--task",
            help="tensor: an ONNX file whose named tensors are served as they are; found out for other models.",
        ),
    ] = None,
    cuda: Annotated[bool, typer.Option("--cuda", help="Also make a graph in float16 for NVIDIA GPUs.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Convert it again, although the same source has a version already.")
    ] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Convert a model, check it against a reference, upload it and make a new version."""
    # Asked to end, clean up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    target = Target.resolve(home, url, api_key)
    with target.client() as client:
        with progress_bars() as progress:
            version, unchanged = import_model(
                client,
                source,
                name,
                quantize=quantize,
                cuda=cuda,
                task=task,
                optimum=None if converter is None else OptimumEnvironment(target.home.tool(converter)),
                aliases=tuple(alias or ()),
                downloads=target.home.downloads,
                journals=target.home.imports,
                force=force,
                progress=progress,
            )
        if json:
            print_json(version)
        else:
            say(
                f"{version.reference}  {size(version.manifest.size)}  {version.manifest.lineage.quantization}"
                + ("  unchanged: the same source and options (--force converts it again)" if unchanged else "")
            )


@app.command("list")
def list_(
    home: HomeOption = None, url: UrlOption = None, api_key: KeyOption = None, json: JsonOption = False
) -> None:
    """All models with their versions and aliases."""
    with Target.resolve(home, url, api_key).client() as client:
        models = client.models.list().models
    if json:
        print_json([model.model_dump(mode="json") for model in models])
        return
    print_versions("model", models, empty="No models yet. Try: llmos model import FILE.gguf --name NAME")


@app.command(epilog="Example: llmos model show smollm2@prod")
def show(
    reference: Annotated[str, typer.Argument(help="name, name:3 or name@alias.")],
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """One version: files, sizes, memory need, lineage."""
    with Target.resolve(home, url, api_key).client() as client:
        version = client.models.version(reference)
        lines = [] if json else lineage_lines(client, version.manifest.lineage)
    if json:
        print_json(version)
        return
    manifest, need = version.manifest, version.manifest.memory
    say(f"{version.reference}  {' '.join('@' + alias for alias in version.aliases)}", style="bold")
    facts = {
        "digest": version.digest,
        "created": f"{version.created_at:%Y-%m-%d %H:%M:%S %Z}",
        "source": manifest.lineage.source,
        "weights": f"{manifest.lineage.quantization}, {size(manifest.size)}",
        "license": manifest.lineage.license or "not stated",
        "shape": _shape(manifest),
        "context": f"{manifest.context_length} tokens",
        "memory": f"{size(need.weights + need.activations)} + {size(need.kv_per_token)} a token",
    }
    if manifest.tensor is not None:
        facts |= {"memory": size(need.weights + need.activations)}
        del facts["context"]
    for name, fact in [*facts.items(), *lines]:
        say(f"  {name:<8} {fact}")
    for file in manifest.files:
        say(f"  {file.path:<24} {size(file.size):>10}  {file.digest[:12]}")


def _shape(manifest: Manifest) -> str:
    if manifest.generates:
        decoder = manifest.the_decoder
        heads = f"{decoder.heads} heads ({decoder.kv_heads} KV)"
        return f"{decoder.layers} layers, {heads}, hidden {decoder.hidden_size}"
    if manifest.seq2seq is not None:
        spec = manifest.seq2seq
        reads = (
            f"{spec.source_length} tokens"
            if spec.speech is None
            else f"speech in {len(spec.speech.languages) or 1} languages"
        )
        return (
            f"encoder and decoder, {spec.layers} layers, {spec.heads} heads, hidden {spec.hidden_size}, reads {reads}"
        )
    if manifest.tensor is not None:
        puts = [
            f"{put.name} {put.datatype} {list(put.shape)}" for put in manifest.tensor.inputs + manifest.tensor.outputs
        ]
        count, rows = len(manifest.tensor.inputs), "" if manifest.tensor.batched else "; requests are computed alone"
        return f"{', '.join(puts[:count])} -> {', '.join(puts[count:])}{rows}"
    encoder = manifest.the_encoder
    if encoder.labels:
        each = " of tokens" if encoder.of_tokens else ""
        return f"encoder, hidden {encoder.hidden_size}, {len(encoder.labels)} labels{each}"
    pooling = "pooled by the graph" if encoder.pooling == "none" else f"{encoder.pooling} pooling"
    return f"encoder, {encoder.output_size} dimensions, {pooling}{', normalised' if encoder.normalize else ''}"


@app.command(epilog="Example: llmos model alias smollm2@prod 3")
def alias(
    name: Annotated[str, typer.Argument(metavar="NAME@ALIAS")],
    version: Annotated[int | None, typer.Argument(help="Version number.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Point an alias at a version, or remove it."""
    model, at, label = name.partition("@")
    if not at or not label:
        raise InvalidInput(f"{name!r}: expected NAME@ALIAS, for example smollm2@prod", param="name")
    if (version is None) != remove:
        raise InvalidInput("give either a version number or --remove", param="version")
    with Target.resolve(home, url, api_key).client() as client:
        if version is None:
            client.models.remove_alias(model, label)
            say(f"{name} removed")
        else:
            client.models.set_alias(model, label, version)
            say(f"{name} -> {model}:{version}")


@app.command(epilog="Example: llmos model export smollm2@prod ./smollm2 --format hf")
def export(
    reference: Annotated[str, typer.Argument(metavar="REF", help="name, name:3 or name@alias.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="version: the files that are served. hf: a Hugging Face directory in float32, for other tools.",
        ),
    ] = "version",
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Write a version's files to a folder."""
    with Target.resolve(home, url, api_key).client() as client, progress_bars() as progress:
        version = export_model(client, reference, folder, form, progress)
    say(f"{version.reference} -> {folder}")


@app.command(epilog="Example: llmos model delete smollm2:1")
def delete(
    reference: Annotated[str, typer.Argument(help="name:3 for one version, name for the whole model.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Delete a version, or a model with all its versions. Refused while it is deployed."""
    with Target.resolve(home, url, api_key).client() as client:
        if not yes:
            typer.confirm(f"Delete {reference} for good?", abort=True)
        client.models.delete(reference)
    say(f"{reference} deleted")


@app.command(epilog="Example: llmos model gc --dry-run")
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")
    ] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Remove files that no version refers to. What was uploaded in the last 24 hours is kept."""
    with Target.resolve(home, url, api_key).client() as client:
        report = client.collect_garbage(dry_run=dry_run)
    if json:
        print_json(report)
        return
    if dry_run:
        for digest in report.blobs:
            say(f"blob {digest}")
        for manifest in report.manifests:
            say(f"manifest {manifest}")
    done = "would be freed" if dry_run else "freed"
    say(f"blobs: {len(report.blobs)}, manifests: {len(report.manifests)}, {size(report.size)} {done}")
