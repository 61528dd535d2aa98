"""A small client of pgmqd's HTTP server."""

import http.client
import json
import socket
import time

from .paths import TIMEOUT


def free_port():
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Http:
    """Requests to pgmqd's HTTP port, each on a connection of its own; with `token`, all of them bring it."""

    def __init__(self, port, token=None):
        self.port, self.token = port, token
        self.headers = {}  # of the last answer

    def __call__(self, path, method="GET", headers=None, body=None):
        """(status, content type, text) of the answer. A `body` that is no text or bytes is sent as JSON."""
        headers = dict(headers or {})
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, (str, bytes)) else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            self.headers = dict(answer.getheaders())
            return answer.status, answer.getheader("Content-Type"), answer.read().decode()
        finally:
            connection.close()

    def wait_json(self, path, status, test=lambda answer: True):
        """Asks until the answer has that status, and `test` of its object is true; returns the object."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            got, answer = self.json(path)
            if got == status and test(answer):
                return answer
            assert time.monotonic() < deadline, f"{path} goes on answering {got}: {answer}"
            time.sleep(0.01)

    def json(self, path, **more):
        status, kind, text = self(path, **more)
        assert kind == "application/json"
        return status, json.loads(text)
