"""As much of S3 as a client needs that stores, lists, reads and deletes objects, in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

BUCKET = "backups"
KEYS = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1"}


class SmallS3:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.refusing = ""  # requests for a path that has this in it


@contextmanager
def small_s3() -> Iterator[tuple[SmallS3, str]]:
    """It, and its address."""
    state = SmallS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None: ...

        def answer(self, body: str | bytes = b"", status: int = 200, **headers: str) -> None:
            data = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def handle_one(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            key = unquote(url.path).removeprefix(f"/{BUCKET}").lstrip("/")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 Credential=someone/"):
                return self.answer("<Error><Code>AccessDenied</Code></Error>", 403)
            if state.refusing and state.refusing in key:
                return self.answer("<Error><Code>AccessDenied</Code></Error>", 403)
            if self.command == "POST" and "uploads" in query:
                state.parts[key] = {}
                return self.answer(f"<R><UploadId>{escape(key)}</UploadId></R>")
            if self.command == "PUT" and "partNumber" in query:
                state.parts[key][int(query["partNumber"])] = body
                return self.answer(ETag=f'"{md5(body).hexdigest()}"')
            if self.command == "POST" and "uploadId" in query:
                state.objects[key] = b"".join(part for _, part in sorted(state.parts.pop(key).items()))
                return self.answer(
                    "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
                )
            if self.command == "POST" and "delete" in query:
                names = [each.text or "" for each in ElementTree.fromstring(body).iter() if "Key" in each.tag]
                for name in names:
                    state.objects.pop(name, None)
                told = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
                return self.answer(f"<DeleteResult>{told}</DeleteResult>")
            if self.command == "PUT":
                state.objects[key] = body
                return self.answer(ETag='"x"')
            if self.command == "DELETE":
                state.objects.pop(key, None)
                return self.answer(status=204)
            if not key:
                found = sorted(name for name in state.objects if name.startswith(query.get("prefix", "")))
                each = "".join(
                    f"<Contents><Key>{escape(name)}</Key><Size>{len(state.objects[name])}</Size><ETag>x</ETag>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                    for name in found
                )
                return self.answer(f"<ListBucketResult>{each}</ListBucketResult>")
            if key not in state.objects:
                return self.answer("<Error><Code>NoSuchKey</Code></Error>", 404)
            modified = "Thu, 01 Jan 2026 00:00:00 GMT"
            return self.answer(state.objects[key], ETag='"x"', Last_Modified=modified)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield state, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
