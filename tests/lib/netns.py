"""A network namespace that a cable joins to ours, which can be pulled."""

import contextlib
import socket
import socketserver
import subprocess
import threading


class NoNamespaces(Exception):
    """There can be none here; the text says why."""


def ip(*args, inside=()):
    subprocess.run([*inside, "ip", *args], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def joined(name, ours, theirs):
    """Yields what runs a program in there (words in front of its own) and a function that sets the cable "up" or "down". The ends of the cable
    have the addresses `ours` and `theirs` of one network of four. Not by `ip -n`, which fails where / is no mount point, as in a chroot."""
    out, end = f"{name}a", f"{name}b"
    inside = ["nsenter", f"--net=/run/netns/{name}"]
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoNamespaces(getattr(error, "stderr", error)) from error
    try:
        ip("link", "add", out, "type", "veth", "peer", "name", end, "netns", name)
        ip("addr", "add", f"{ours}/30", "dev", out)
        ip("link", "set", out, "up")
        ip("addr", "add", f"{theirs}/30", "dev", end, inside=inside)
        ip("link", "set", end, "up", inside=inside)
        ip("link", "set", "lo", "up", inside=inside)
        yield inside, lambda state: ip("link", "set", out, state)
    finally:
        subprocess.run(["ip", "link", "del", out], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


class _Relay(socketserver.BaseRequestHandler):
    def handle(self):
        up = socket.create_connection(("127.0.0.1", self.server.to))
        threading.Thread(target=self.pump, args=(up, self.request), daemon=True).start()
        self.pump(self.request, up)
        up.close()

    @staticmethod
    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, block_on_close = True, False


@contextlib.contextmanager
def relay(address, port):
    """Yields a port of `address` that leads to the given port of the loopback."""
    with _Server((address, 0), _Relay) as server:
        server.to = port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
