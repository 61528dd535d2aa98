"""A TCP proxy in front of PostgreSQL that does what networks and poolers do: cuts, stalls, resets, drips, loses.

Directions are "up" (to the server) and "down" (to pgmqd). Everything can be set before connections come and while they stand.
"""

import fcntl
import random
import select
import socket
import ssl
import struct
import termios
import threading
import time

CHUNK = 65536
FULL = 1 << 20  # what a direction may hold before it stops reading
UNTYPED = 8  # bytes of a request for encryption; it and the packet that starts a session have no type


class Plan:
    """What happens to one connection: `cut` (direction, bytes, how) with how "rst" or "fin"; `stall` (direction, bytes, seconds);
    drip: one byte at a time for that many bytes down."""

    def __init__(self, cut=None, stall=None, drip=0):
        self.cut, self.stall, self.drip = cut, stall, drip

    @classmethod
    def random(cls, rng, reach=20000):
        """A connection that is cut somewhere, and may stall or drip before that."""
        plan = cls(cut=(rng.choice(("up", "down")), int(rng.expovariate(1 / reach)), rng.choice(("rst", "fin"))))
        way = rng.randrange(4)
        if way == 0:
            plan.stall = (rng.choice(("up", "down")), int(rng.expovariate(2 / reach)), rng.uniform(0.05, 0.5))
        elif way == 1:
            plan.drip = rng.randrange(1, 4000)
        return plan


class Messages:
    """Takes what one side sends apart."""

    def __init__(self, starts):
        self.buffer, self.starts, self.answers = bytearray(), starts, not starts

    def feed(self, data):
        """The messages that are whole now, each with how many bytes of `data` belong to it and those before."""
        old = len(self.buffer)
        self.buffer += data
        at, found = 0, []
        while self.answers and self.buffer[at:at + 1] in (b"N", b"S"):  # the answers to requests for encryption are bare bytes
            at += 1
        self.answers = self.answers and at == len(self.buffer)
        while len(self.buffer) >= at + 5:
            n = struct.unpack("!I", self.buffer[at + (not self.starts):at + 4 + (not self.starts)])[0] + (not self.starts)
            if len(self.buffer) < at + n:
                break
            if self.starts:
                self.starts = n == UNTYPED
            else:
                found.append((bytes(self.buffer[at:at + n]), at + n - old))
            at += n
        del self.buffer[:at]
        return found


class Link(threading.Thread):
    """One connection through the proxy: a loop over its two sockets."""

    def __init__(self, proxy, client, plan):
        super().__init__(daemon=True)
        self.proxy, self.client, self.plan = proxy, client, plan
        self.server = socket.create_connection(proxy.target)
        self.passed = {"up": 0, "down": 0}
        self.held = {"up": bytearray(), "down": bytearray()}  # read, to be sent
        self.frames = bytearray()                             # of the server's messages, not yet whole
        self.until = {"up": 0.0, "down": 0.0}
        self.done = self.secure = self.framed = False
        self.asked, self.told = Messages(starts=True), Messages(starts=False)
        self.ends, self.ended = 1, 0  # of groups of statements, and of the start: asked for, and told
        self.lost = None              # the answer that is to be lost is behind so many ends
        self.started = not proxy.tls
        for s in (client, self.server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # ---- ends ----

    def close(self, how="fin"):
        """Closes both ends; "rst" lets the client see a reset."""
        self.done = True
        if how == "rst":
            try:
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
        for s in (self.client, self.server):
            try:
                s.close()
            except OSError:
                pass
        self.proxy.forget(self)

    def run(self):
        try:
            if self.proxy.tls:
                self.handshake()
            self.client.setblocking(False)
            self.server.setblocking(False)
            while not self.done and self.step():
                pass
        except (OSError, ValueError, EOFError):
            pass
        finally:
            if not self.done:
                self.close()

    def handshake(self):
        """Answers the request for TLS and becomes the server of it."""
        head = b""
        while len(head) < 8:
            more = self.client.recv(8 - len(head))
            if not more:
                raise EOFError
            head += more
        if head[4:] != struct.pack("!I", 80877103):
            self.server.sendall(head)
            return
        self.client.sendall(b"S")
        self.client = self.proxy.context.wrap_socket(self.client, server_side=True)
        self.secure = True

    # ---- bytes ----

    def stalled(self, direction):
        return direction in self.proxy.stalled or time.monotonic() < self.until[direction]

    def step(self):
        """One round: reads what there is and may be read, sends what may be sent."""
        ends = {"up": (self.client, self.server), "down": (self.server, self.client)}
        reading = [src for d, (src, _) in ends.items() if not self.stalled(d) and len(self.held[d]) < FULL]
        writing = [dst for d, (_, dst) in ends.items() if self.held[d] and not self.stalled(d)]
        pending = self.secure and self.client in reading and self.client.pending()
        readable, writable, _ = select.select(reading, writing, [], 0 if pending else 0.02)
        for d, (src, dst) in ends.items():
            if src in readable or (pending and src is self.client):
                data = self.receive(src)
                if data == b"":
                    return False
                if data:
                    self.take(d, data)
        for d, (src, dst) in ends.items():
            if dst in writable and self.held[d] and not self.done:
                self.send(d, dst)
                for _ in range(1000 if d == "down" and self.proxy.record else 0):  # tiny records, and no turn of the loop for each
                    before = self.passed[d]
                    if self.held[d] and not self.done and not self.stalled(d):
                        self.send(d, dst)
                    if self.passed[d] == before:
                        break
        return True

    @staticmethod
    def receive(s):
        """Bytes, b"" at the end, None when there is nothing after all."""
        try:
            return s.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def take(self, direction, data):
        """What came in, less what is to be lost."""
        proxy = self.proxy
        if direction in proxy.dropped:
            proxy.bytes_lost += len(data)
            return
        if direction == "up":
            self.watch_asked(data)
        else:
            data = self.watch_told(data)
        if direction == "down" and proxy.keep is not None:
            self.frames += data
            data = self.filtered()
        self.held[direction] += data

    def watch_asked(self, data):
        """Whether the statement is among it whose answer is to be lost; other ones may be under way before it."""
        for message, _ in self.asked.feed(data):
            if self.proxy.lose_reply and self.proxy.lose_reply.search(message):
                self.lost, self.proxy.lose_reply = self.ends, None
            self.ends += message[:1] in (b"S", b"Q")

    def watch_told(self, data):
        """The data as far as it may pass. The connection is reset when the answer that is lost is whole: the statement is committed."""
        passes = 0 if self.lost == self.ended else len(data)
        for message, end in self.told.feed(data):
            self.ended += message[:1] == b"Z"
            if message[:1] == b"Z" and self.lost == self.ended:
                passes = end
            elif self.lost is not None and self.ended > self.lost and not self.done:
                self.proxy.replies_lost += 1
                self.close("rst")
        self.proxy.bytes_lost += len(data) - passes
        return data[:passes]

    def filtered(self):
        """The whole messages of the server that `keep` lets through."""
        out = bytearray()
        while self.frames[:1] == b"N" and not self.framed:  # the answers to requests for encryption are bare bytes
            out += self.frames[:1]
            del self.frames[:1]
        self.framed = self.framed or bool(self.frames)
        while len(self.frames) >= 5:
            length = struct.unpack("!I", self.frames[1:5])[0] + 1
            if len(self.frames) < length:
                break
            if self.proxy.keep(chr(self.frames[0]), bytes(self.frames[5:length])):
                out += self.frames[:length]
            else:
                self.proxy.messages_lost += 1
            del self.frames[:length]
        return bytes(out)

    def send(self, direction, dst):
        """Sends some, and does what the plan says about the place that is reached with it."""
        held, plan = self.held[direction], self.plan
        n = min(len(held), CHUNK * 4, self.proxy.record or FULL if direction == "down" else FULL)
        if direction == "down" and (self.passed["down"] < plan.drip or self.proxy.drip):
            n = 1
        for what in ("cut", "stall"):
            rule = getattr(plan, what)
            if rule and rule[0] == direction:
                n = min(n, max(0, rule[1] - self.passed[direction]))
                if n == 0:
                    if what == "cut":
                        self.close(rule[2])
                    else:
                        plan.stall, self.until[direction] = None, time.monotonic() + rule[2]
                    return
        try:
            n = dst.send(bytes(held[:n]))
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        self.passed[direction] += n
        del held[:n]


class Proxy:
    """Listens on a port of its own. tls: (certificate, key) to speak TLS with the client, in records as large as they get.
    plans: a function that makes the Plan of each connection. keep(type, body): which of the server's messages pass."""

    def __init__(self, host, port, tls=None, plans=None, keep=None):
        self.target, self.tls, self.plans, self.keep = (host, port), tls, plans or (lambda: Plan()), keep
        self.stalled, self.dropped = set(), set()
        self.drip, self.lose_reply = False, None
        self.record = None  # bytes of each TLS record to pgmqd, 16,384 at most; None: as they come
        self.connections = self.replies_lost = self.messages_lost = self.bytes_lost = self.refused = 0
        self.times = []  # of every connection, monotonic
        self.links, self.lock, self.accepting = set(), threading.Lock(), True
        self.gone = {"up": 0, "down": 0}  # bytes of the connections that have ended
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.times.append(time.monotonic())
            try:
                if not self.accepting:
                    raise ConnectionRefusedError
                link = Link(self, client, self.plans())
            except OSError:
                self.refused += 1
                client.close()
                continue
            with self.lock:
                self.links.add(link)
            link.start()

    def forget(self, link):
        with self.lock:
            if link in self.links:
                self.links.discard(link)
                for direction, number in link.passed.items():
                    self.gone[direction] += number

    def stall(self, *directions):
        """Nothing moves any more; the sockets stay open."""
        self.stalled |= set(directions or ("up", "down"))

    def resume(self):
        """Everything flows again, what was stalled first."""
        self.stalled.clear()
        self.dropped.clear()

    def passed(self, direction):
        """How many bytes have been sent on, also over connections that have ended."""
        with self.lock:
            return self.gone[direction] + sum(link.passed[direction] for link in self.links)

    def waiting(self, direction):
        """How many bytes have come in and are not sent on, because that direction is stalled."""
        with self.lock:
            ends = [(link.client if direction == "up" else link.server, len(link.held[direction])) for link in self.links]
        return sum(held + struct.unpack("i", fcntl.ioctl(s.fileno(), termios.FIONREAD, bytes(4)))[0] for s, held in ends if s.fileno() >= 0)

    def drop(self, *directions):
        """What comes from now on is read and thrown away."""
        self.dropped |= set(directions)

    def cut(self, how="rst"):
        """Ends every connection; returns how many."""
        with self.lock:
            links = list(self.links)
        for link in links:
            link.close(how)
        return len(links)

    def close(self):
        self.listener.close()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def chaos(seed, reach=20000):
    """A `plans` function with a seed."""
    rng = random.Random(seed)
    return lambda: Plan.random(rng, reach)
