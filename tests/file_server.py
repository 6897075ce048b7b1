"""A real HTTP server over a folder, with ranges, that can be told to misbehave."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class FileServer(ThreadingHTTPServer):
    """Serves `folder` at `url`.

    Attributes:
        asked: (method, path, bytes sent) of every answered request.
        ranges: whether parts of files are given.
        cut: how many of the next answers end in the middle.
        status: what is answered instead of a file, if it is not None.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[tuple[str, str, int]] = []
        self.ranges, self.cut, self.status = True, 0, None

    def handle_error(self, *_):
        """A client that hangs up is none of our errors."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def sent(self, path: str = "") -> int:
        """Bytes of files whose path holds this."""
        return sum(count for _, asked, count in self.asked if path in asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        server, path = self.server, unquote(urlsplit(self.path).path)
        target = server.folder / path.lstrip("/")
        if server.status is not None:
            return self._plain(server.status, b"")
        if target.is_dir():
            links = "".join(
                f'<a href="{path.rstrip("/")}/{p.name}{"/" if p.is_dir() else ""}">{p.name}</a>\n'
                for p in sorted(target.iterdir())
            )
            return self._plain(200, links.encode() if body else b"")
        if not target.is_file():
            return self._plain(404, b"")
        size = target.stat().st_size
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin, end = 0, size
        partial = bool(wanted) and server.ranges
        if partial:
            begin = int(wanted[1])
            end = min(int(wanted[2] or size - 1) + 1, size)
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes" if server.ranges else "none")
        if partial:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.end_headers()
        if not body:
            return None
        with target.open("rb") as file:
            file.seek(begin)
            content = file.read(end - begin)
        if server.cut > 0:
            server.cut -= 1
            content = content[: len(content) // 2]
            self.close_connection = True
        server.asked.append((self.command, path, len(content)))
        try:
            self.wfile.write(content)
        except OSError:
            self.close_connection = True
        return None

    def _plain(self, status, content):
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def served(folder: Path):
    """A running FileServer."""
    with FileServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
