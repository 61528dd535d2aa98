"""A small client of pgmqd's HTTP server."""

import http.client
import json
import socket
import time

try:
    import jsonschema
except ImportError:  # the tests that need it are skipped then
    jsonschema = None

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


class Described(Http):
    """A client that checks every answer against the OpenAPI description once it has it, and remembers which it has seen."""

    def __init__(self, port, token=None):
        super().__init__(port, token)
        self.spec, self.seen = None, set()

    def describe(self):
        self.spec = self.json("/api/openapi.json")[1] if jsonschema is not None else None

    def operation(self, path, method):
        """(pattern, operation) of the description for a path."""
        parts = path.partition("?")[0].split("/")
        for pattern, methods in self.spec["paths"].items():
            names = pattern.split("/")
            if len(names) == len(parts) and all(n.startswith("{") or n == p for n, p in zip(names, parts)):
                return pattern, methods.get(method.lower())
        return None, None

    def __call__(self, path, method="GET", **more):
        status, kind, text = super().__call__(path, method, **more)
        if self.spec is not None and method in ("GET", "POST"):
            pattern, operation = self.operation(path, method)
            if operation is not None:
                responses = operation["responses"]
                assert str(status) in responses, f"{method} {pattern} answers {status}, which is not described: {text}"
                answer = responses[str(status)]
                if "$ref" in answer:
                    answer = self.spec["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                content = answer.get("content")
                if content:
                    assert kind.partition(";")[0] in content, f"{method} {pattern} answers {kind}"
                if content and "application/json" in content:
                    jsonschema.Draft202012Validator(
                        {**content["application/json"]["schema"], "components": self.spec["components"]},
                        format_checker=jsonschema.FormatChecker()).validate(json.loads(text))
                self.seen.add((method, pattern, status))
        return status, kind, text
