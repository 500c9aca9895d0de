"""An HTTP proxy as companies have it: it passes connections on that CONNECT asks for."""

import contextlib
import socket
import threading


class ConnectProxy:
    """Notes the heads of requests in `asked`. `answer`: what it says in place of passing a connection on."""

    def __init__(self, answer: bytes = b"") -> None:
        self.asked: list[str] = []
        self.answer = answer

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error):
        # Closing alone leaves the thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(
                    target=self._pass, args=self._listener.accept()[:1], daemon=True
                ).start()

    def _pass(self, client):
        with client, contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = client.recv(1)
                if not byte:
                    return
                head += byte
            self.asked.append(head.decode())
            if self.answer:
                client.sendall(self.answer)
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
                threading.Thread(target=self._pipe, args=(client, server), daemon=True).start()
                self._pipe(server, client)

    def _pipe(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
