"""A scripted HTTP server on the loopback address: answers each path as a test says, and keeps every request."""

import base64
import json
import threading
import time
from collections import defaultdict, namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .paths import TIMEOUT

Request = namedtuple("Request", "method path headers body at number connection")
Answer = namedtuple("Answer", "status body headers hang before cut", defaults=(None, {}, False, None, False))


class HttpStub:
    """answer(path, status, body) queues an answer for a path; the last one of a path is repeated. `default` is for all others. `reply`, when
    it is set, gives (status, headers, body) for each request instead, or None to stay silent until the stub stops."""

    def __init__(self, default=(404, {"type": "error", "code": "not_found"}), login=None, reply=None, port=0):
        self.default, self.login, self.reply, self._port = default, login, reply, port
        self.connections = 0
        self._changed = threading.Condition(threading.RLock())
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

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def process_request(self, request, client_address):
                stub.connections += 1
                super().process_request(request, client_address)

            def handle_error(self, request, client_address):
                pass  # the other side has gone away, as it may

        self._server = Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    @property
    def port(self):
        return self._server.server_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

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
            self._answers[path].append(Answer(status, body, headers or {}, hang, before, cut))

    def reset(self):
        """Forgets all answers and requests."""
        with self._changed:
            self._answers.clear()
            self._requests.clear()

    def requests(self, path=None):
        with self._changed:
            return [r for r in self._requests if path is None or r.path == path]

    def wait_requests(self, path=None, n=1, timeout=TIMEOUT):
        """Until n requests for that path (None: for any) have come; returns them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests(path)) >= n, timeout):
                raise TimeoutError(f"{len(self.requests(path))} of {n} requests for {path}; there were {self._requests}")
            return self.requests(path)

    def wait(self, number=1, timeout=TIMEOUT):
        """The request with that number, counted from 1."""
        return self.wait_requests(None, number, timeout)[number - 1]

    # ---- the server's side ----

    def _pick(self, request):
        if self.reply:
            found = self.reply(request)
            return Answer(0, hang=True) if found is None else Answer(found[0], found[2], found[1])
        with self._changed:
            answers = self._answers.get(request.path)
            if not answers:
                return Answer(*self.default)
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def _allowed(self, handler):
        if not self.login:
            return True
        want = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
        return handler.headers.get("Authorization") == want

    def _serve(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self._changed:
            request = Request(handler.command, handler.path, handler.headers, body, time.monotonic(), len(self._requests) + 1, handler.connection)
            self._requests.append(request)
            self._changed.notify_all()
        answer = self._pick(request)
        if answer.before:
            answer.before()
        if answer.hang:
            self._released.wait()
            handler.close_connection = True
            return
        if answer.cut:
            handler.close_connection = True
            handler.connection.shutdown(2)
            return
        if not self._allowed(handler):
            answer = Answer(401, {"type": "error", "code": "invalid_credentials"})
        data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        headers = {"Content-Type": "application/json", **({} if answer.status == 204 else {"Content-Length": str(len(data))}), **answer.headers}
        handler.send_response(answer.status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if answer.status != 204:
            handler.wfile.write(data)
