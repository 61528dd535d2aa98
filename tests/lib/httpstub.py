"""A scripted HTTP server on the loopback address: answers each path as a test says, and keeps every request."""

import base64
import json
import threading
import time
from collections import defaultdict, namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .paths import TIMEOUT

Request = namedtuple("Request", "method path headers body at")


class HttpStub:
    """answer(path, status, body) queues an answer for a path; the last one of a path is repeated. `default` is for all others."""

    def __init__(self, default=(404, {"type": "error", "code": "not_found"}), login=None):
        self.default, self.login = default, login
        self._changed = threading.Condition()
        self._answers = defaultdict(list)
        self._requests = []
        self._server = None
        self._released = threading.Event()

    # ---- life ----

    def start(self):
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self):
                stub._serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = _serve

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self):
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # ---- for tests ----

    def answer(self, path, status=200, body=None, headers=None, hang=False, before=None, cut=False):
        """Appends an answer; hang: none is given until the stub stops; before: is called when the request is
        there, before its answer; cut: the connection is closed instead."""
        with self._changed:
            self._answers[path].append((status, body, headers or {}, hang, before, cut))

    def reset(self):
        """Forgets all answers and requests."""
        with self._changed:
            self._answers.clear()
            self._requests.clear()

    def requests(self, path=None):
        with self._changed:
            return [r for r in self._requests if path is None or r.path == path]

    def wait_requests(self, path, n=1, timeout=TIMEOUT):
        """Until n requests for that path have come; returns them."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [r for r in self._requests if r.path == path]
                left = deadline - time.monotonic()
                if len(found) >= n:
                    return found
                if left <= 0:
                    raise TimeoutError(f"{len(found)} of {n} requests for {path}; there were {self._requests}")
                self._changed.wait(left)

    # ---- the server's side ----

    def _pick(self, path):
        answers = self._answers.get(path)
        if not answers:
            return (*self.default, {}, False, None, False)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _allowed(self, handler):
        if not self.login:
            return True
        want = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
        return handler.headers.get("Authorization") == want

    def _serve(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self._changed:
            self._requests.append(Request(handler.command, handler.path, dict(handler.headers), body, time.monotonic()))
            status, answer, headers, hang, before, cut = self._pick(handler.path)
            self._changed.notify_all()
        if before:
            before()
        if hang:
            self._released.wait()
            handler.close_connection = True
            return
        if cut:
            handler.close_connection = True
            handler.connection.shutdown(2)
            return
        if not self._allowed(handler):
            status, answer, headers = 401, {"type": "error", "code": "invalid_credentials"}, {}
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)
