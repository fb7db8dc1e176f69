"""Downloads a model's files from the Hugging Face hub, or from a mirror that speaks its API.

Only what an import reads is fetched: configuration, tokenizer, template, model card and safetensors. A download that
was cut off goes on where it stopped, and every file is checked against the size and, where the hub states one, the
SHA-256 that the hub has for it.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Self

import httpx

from llmos.connection import http_client
from llmos.progress import Progress
from shared.errors import CorruptFile, InvalidInput, NotFound, PermissionDenied, Unavailable, UnsupportedFormat

HUB = "https://huggingface.co"
_REFERENCE = re.compile(r"hf:([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,128}))?")
_NEEDED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
           "special_tokens_map.json", "chat_template.json", "chat_template.jinja", "README.md",
           "model.safetensors", "model.safetensors.index.json",
           "model-?????-of-?????.safetensors")  # fmt: skip
_ATTEMPTS = 5
"""Times that a file is taken up again without a byte having come."""
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class HubModel:
    """`hf:org/name` or `hf:org/name@revision`; a revision is a branch, a tag or a commit."""

    repository: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidInput naming the form."""
        match = _REFERENCE.fullmatch(text)
        if match is None or ".." in text:
            raise InvalidInput(f"{text}: expected hf:org/name or hf:org/name@revision", param="source")
        return cls(match[1], match[2] or "main")


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    size: int
    sha256: str | None


class Hub:
    """A client of the hub. `url` and `token` are as the hub's own tools take them from HF_ENDPOINT and HF_TOKEN."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.url = (url or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        token = token or os.environ.get("HF_TOKEN")
        self._http = http_client(
            self.url,
            key=token or "",
            timeout=_TIMEOUT,
            follow_redirects=True,
            named="HF_ENDPOINT",
            key_named="HF_TOKEN",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def download(self, model: HubModel, folder: Path, progress: Progress) -> str:
        """Fetch the files of `model` into `folder`; returns `org/name@commit`.

        What is in `folder` already is not fetched again. `progress` is called with the stage `download`.

        Raises:
            Unavailable: the hub can't be reached.
            NotFound: no such model or revision.
            PermissionDenied: the model is gated or private.
            UnsupportedFormat: the model has no safetensors.
            CorruptFile: a file is not what the hub says it is.
        """
        commit, files = self._list(model)
        folder.mkdir(parents=True, exist_ok=True)
        total, done = max(sum(file.size for file in files), 1), 0
        progress("download", 0.0, total)
        for file in files:
            before = done

            def received(count: int, before: int = before) -> None:
                progress("download", min(1.0, (before + count) / total), total)

            self._fetch(f"{self.url}/{model.repository}/resolve/{commit}/{file.name}", file, folder, received)
            done += file.size
        progress("download", 1.0, total)
        return f"{model.repository}@{commit}"

    def _list(self, model: HubModel) -> tuple[str, list[_File]]:
        url = f"{self.url}/api/models/{model.repository}/revision/{model.revision}"
        try:
            response = self._http.get(url, params={"blobs": "true"})
        except httpx.TransportError as error:
            raise self._unreachable(model, error) from error
        self._check(response, model.repository)
        try:
            body = response.json()
            commit, siblings = body["sha"], body["siblings"]
            files = [_described(sibling) for sibling in siblings if _is_needed(sibling["rfilename"])]
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{url} answered something else than a hub does") from error
        if not re.fullmatch(r"[0-9a-f]{40}", str(commit)):
            raise Unavailable(f"{url} answered no commit")
        if not any(file.name.endswith(".safetensors") for file in files):
            ggufs = [sibling["rfilename"] for sibling in siblings if sibling["rfilename"].endswith(".gguf")]
            raise UnsupportedFormat(
                f"{model.repository} has no safetensors"
                + (f"; download one of its GGUF files ({ggufs[0]}, …) and import that" if ggufs else ""),
                param="source",
            )
        return commit, files

    def _fetch(self, url: str, file: _File, folder: Path, received: Callable[[int], None]) -> None:
        path, partial = folder / file.name, folder / f"{file.name}.partial"
        if path.exists() and path.stat().st_size == file.size:
            return
        if _size(partial) > file.size:
            partial.unlink()
        stalled = 0
        while not partial.exists() or _size(partial) < file.size:
            before, broken = _size(partial), None
            try:
                self._stream(url, partial, before, received)
            except httpx.TransportError as error:
                broken = error
            stalled = 0 if _size(partial) > before else stalled + 1
            if stalled == _ATTEMPTS:
                raise Unavailable(
                    f"the connection to {self.url} broke at {_size(partial):,} of {file.size:,} bytes of {file.name};"
                    " run the same command again to go on from there"
                ) from broken
        _check_arrived(partial, file)
        partial.replace(path)

    def _stream(self, url: str, partial: Path, have: int, received: Callable[[int], None]) -> None:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self._http.stream("GET", url, headers=headers) as response:
            self._check(response, url)
            goes_on = response.status_code == httpx.codes.PARTIAL_CONTENT
            with partial.open("ab" if goes_on else "wb") as out:
                for chunk in response.iter_raw():
                    out.write(chunk)
                    received(out.tell())

    def _check(self, response: httpx.Response, what: str) -> None:
        if response.is_success:
            return
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            # The hub also answers 401 for a repository that does not exist: 404 would reveal which private ones do.
            raise PermissionDenied(
                f"{what}: the hub requires a login. The name may be wrong; if the model is gated, accept its"
                f" terms at {self.url} and set HF_TOKEN"
            )
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"{what}: the hub at {self.url} has no such model, revision or file", param="source")
        raise Unavailable(f"{self.url} answered {response.status_code} for {what}; try again later")

    def _unreachable(self, model: HubModel, error: httpx.TransportError) -> Unavailable:
        return Unavailable(
            f"the hub at {self.url} can't be reached ({error}): download {model.repository} on a machine that can,"
            " copy the folder here and import it by its path"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_needed(name: Any) -> bool:
    return isinstance(name, str) and "/" not in name and any(fnmatch(name, pattern) for pattern in _NEEDED)


def _described(sibling: dict[str, Any]) -> _File:
    lfs = sibling.get("lfs")
    digest = lfs["sha256"] if isinstance(lfs, dict) else None
    return _File(sibling["rfilename"], int(sibling["size"]), digest)


def _check_arrived(path: Path, file: _File) -> None:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if _size(path) == file.size and file.sha256 in (None, digest):
        return
    arrived = _size(path)
    path.unlink()
    raise CorruptFile(
        f"{file.name} arrived with {arrived:,} bytes and SHA-256 {digest[:12]}…, and the hub says it has"
        f" {file.size:,} and {(file.sha256 or 'any')[:12]}…; run the same command again",
        param="source",
    )
