"""A small HTTP server on the loopback address that answers as it is told and keeps what it was sent."""

import http.server
import threading

from .paths import TIMEOUT


class HookServer:
    """`answer(request)` gives (status, headers, body) for a request (a dict: path, headers, body, number, connection), or None to stay silent
    until the server is closed."""

    def __init__(self, answer=lambda request: (204, {}, b"")):
        self.answer = answer
        self.requests, self.connections, self._changed, self._closing = [], 0, threading.Condition(), threading.Event()
        hooks = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                hooks._handle(self)

            do_GET = do_POST

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def process_request(self, request, client_address):
                hooks.connections += 1
                super().process_request(request, client_address)

            def handle_error(self, request, client_address):
                pass  # the other side has gone away, as it may

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _handle(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._changed:
            request = {"path": handler.path, "headers": handler.headers, "body": body, "number": len(self.requests) + 1,
                       "connection": handler.connection}
            self.requests.append(request)
            self._changed.notify_all()
        answer = self.answer(request)
        if answer is None:
            self._closing.wait()
            handler.close_connection = True
            return
        status, headers, body = answer
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if status != 204:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if status != 204:
            handler.wfile.write(body)

    def wait(self, count=1, timeout=TIMEOUT):
        """The request with that number, counted from 1."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout):
                raise TimeoutError(f"{len(self.requests)} of {count} requests have come")
            return self.requests[count - 1]

    def close(self):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
