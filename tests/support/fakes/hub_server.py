"""A hub of one model on loopback: the two routes of the Hugging Face hub that a download uses, and its failings."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves `folder` as `repository`; attributes may be changed while it runs.

    Attributes:
        cut_after: Bytes after which the connection of every file answer breaks; 0 for never.
        wrong_digest: Whether the listing states another SHA-256 than the files have.
        status: The status of the listing.
        ranges: The Range headers received, in order, with the file's name.
    """

    def __init__(self, folder: Path, repository: str = "org/tiny") -> None:
        self.folder, self.repository = folder, repository
        self.cut_after = 0
        self.wrong_digest = False
        self.status = 200
        self.ranges: list[tuple[str, str | None]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def listing(self) -> dict[str, object]:
        siblings: list[dict[str, object]] = [{"rfilename": "../escape.json", "size": 3}]
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            digest = "0" * 64 if self.wrong_digest else hashlib.sha256(path.read_bytes()).hexdigest()
            large = {"lfs": {"sha256": digest}} if path.suffix == ".safetensors" else {}
            siblings.append({"rfilename": str(path.relative_to(self.folder)), "size": path.stat().st_size, **large})
        return {"sha": COMMIT, "siblings": siblings}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == f"/api/models/{hub.repository}/revision/main":
                    self._answer(hub.status, json.dumps(hub.listing()).encode())
                    return
                name = path.removeprefix(f"/{hub.repository}/resolve/{COMMIT}/")
                if name == path or not (hub.folder / name).is_file():
                    self._answer(404, b"")
                    return
                asked = self.headers.get("Range")
                hub.ranges.append((name, asked))
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                content = (hub.folder / name).read_bytes()[start:]
                self._answer(206 if asked else 200, content, hub.cut_after or len(content))

            def _answer(self, status: int, content: bytes, send: int | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[:send])
                if send is not None and send < len(content):
                    self.close_connection = True

        return Handler
