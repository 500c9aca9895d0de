"""An S3: moto's server mode, with TLS and with presigned URLs that end."""

import datetime
import threading
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path

import boto3
from botocore.config import Config
from certs import Identity
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from servers import HOST, Server, tls_1_2
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import Client

# A session's token makes URLs as long as those that stores of release files redirect to.
_TOKEN = "IQoJb3JpZ2luX2Vj" + "x" * 1150


class S3(Server):
    """An S3 with the files that are in `root` when it starts; url() makes presigned URLs for GET.

    `ahead_s` is how far its clock is ahead, which ends URLs before their time.
    """

    _listener: BaseWSGIServer | None = None

    def __init__(self, root: Path, identity: Identity) -> None:
        super().__init__(identity)
        self.root = root
        self.ahead_s = 0
        self._issued: set[str] = set()
        # One for all servers of a process, so each has a bucket of its own.
        self._moto = DomainDispatcherApplication(create_backend_app)

    def url(self, path: str = "", host: str = "localhost", *, expires_s: int = 300) -> str:
        """Return a URL that is good for a GET of this file within `expires_s` seconds."""
        name = path.removeprefix("/")
        client = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=f"https://{host}:{self.port}",
            aws_access_key_id="test-key-id",
            aws_secret_access_key="test-key",
            aws_session_token=_TOKEN,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        what = {
            "Bucket": self._bucket,
            "Key": name,
            "ResponseContentDisposition": f"attachment; filename={name}",
            "ResponseContentType": "application/octet-stream",
        }
        url: str = client.generate_presigned_url("get_object", what, expires_s, "GET")
        client.close()
        self._issued.add(urllib.parse.urlsplit(url).query)
        return url

    @property
    def _bucket(self) -> str:
        return f"firmware-{self.port}"

    def start(self) -> None:
        self._listener = make_server(
            HOST,
            self.port,
            self._answer,
            threaded=True,
            request_handler=_QuietHandler,
            ssl_context=tls_1_2(self),
        )
        self.port = self._listener.port
        client = Client(self._moto)
        client.put(f"/{self._bucket}")
        for file in self.root.iterdir():
            client.put(f"/{self._bucket}/{file.name}", data=file.read_bytes())
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()
            self._thread.join()
            listener.server_close()

    def _answer(self, environ: dict[str, str], start_response: Callable) -> Iterable[bytes]:
        # moto takes any signature at any time. As S3 does, this takes the URLs made by url() alone, for GET (a HEAD
        # has another signature), until they end.
        query = environ["QUERY_STRING"]
        if environ["REQUEST_METHOD"] != "GET" or query not in self._issued:
            return _refuse(start_response, "SignatureDoesNotMatch", "The signature does not match")
        if "HTTP_AUTHORIZATION" in environ:
            return _refuse(start_response, "InvalidArgument", "Only one auth mechanism allowed")
        fields = dict(urllib.parse.parse_qsl(query))
        made = datetime.datetime.strptime(fields["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
        age = datetime.datetime.now(datetime.UTC) - made
        if age.total_seconds() + self.ahead_s > int(fields["X-Amz-Expires"]):
            return _refuse(start_response, "AccessDenied", "Request has expired")
        return self._moto(environ, start_response)


def _refuse(start_response: Callable, code: str, message: str) -> Iterable[bytes]:
    text = '<?xml version="1.0" encoding="UTF-8"?>\n'
    text += f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    start_response(
        "403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))]
    )
    return [text.encode()]


class _QuietHandler(MotoRequestHandler):
    def log(self, *args: object) -> None:
        pass
