"""A mail server that misbehaves to order: each step of SMTP answers as scripted, hangs, hangs up, or dribbles.

    with SmtpStub() as server:
        server.on("RCPT", "550 5.1.1 no such user")   # from now on, always
        server.on("DOT", CLOSE, times=1)              # the first time only

The steps are GREETING, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA (the answer before the text), BODY (after the text's first
bytes), DOT (the answer after it), RSET and QUIT. Plain blocking sockets, one thread a connection.
"""

import base64
import hmac
import re
import socket
import ssl
import struct
import threading
import time

from .paths import TIMEOUT

HANG = object()   # says nothing more and reads nothing more; the connection stays open
CLOSE = object()  # ends the connection in an orderly way
RESET = object()  # ends it with a TCP reset

DEFAULTS = {
    "GREETING": "220 mail.example.test ESMTP",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 accepted",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 go ahead",
    "DOT": "250 2.0.0 Ok: queued",
    "RSET": "250 2.0.0 Ok",
    "NOOP": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye",
}


class Hangup(Exception):
    """The connection is to end."""


class Command:
    """A line that a client sent. `ahead`: how many bytes of further commands came along with it."""

    def __init__(self, connection, verb, line, ahead):
        self.connection, self.verb, self.line, self.ahead = connection, verb, line, ahead

    def __repr__(self):
        return f"<{self.connection}: {self.line}>"


class Mail:
    """A mail that was accepted at the final dot; `bytes` without dot-stuffing."""

    def __init__(self, connection, sender, recipients, data):
        self.connection, self.sender, self.recipients, self.bytes = connection, sender, recipients, data


class SmtpStub:
    """tls: "none", "starttls" or "direct" with the certificate in cert_dir (as lib.certs makes it). login: (user, password) makes
    AUTH by `mechanisms` known; what is sent must match, unless AUTH is scripted."""

    def __init__(self, tls="none", cert_dir=None, login=None, capabilities=("PIPELINING", "SIZE 20971520", "8BITMIME"),
                 drip=False, port=0, mechanisms="PLAIN LOGIN"):
        self.tls, self.cert_dir, self.login, self.mechanisms = tls, cert_dir, login, mechanisms
        self.capabilities = list(capabilities)
        self.drip = drip  # replies leave byte by byte
        self.host, self.port = "127.0.0.1", port  # 0: any that is free
        self.commands, self.mails, self.connections = [], [], 0
        self.bodies = []  # everything that ended in a final dot, whatever the answer
        self.open_now = self.open_max = 0  # one that has said QUIT is no longer open
        self.open = set()  # the numbers of the connections that are open
        self._rules = []
        self._changed = threading.Condition()
        self._sockets, self._threads, self._stopping = set(), [], False

    # ---- life ----

    def start(self):
        """Listens on a free port of 127.0.0.1; returns self."""
        self._context = None
        if self.tls != "none":
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(f"{self.cert_dir}/server.pem", f"{self.cert_dir}/server.key")
        self._listener = socket.create_server((self.host, self.port), backlog=128)
        # little room, so that a test can have a client whose mail is not all written
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept)
        return self

    def stop(self):
        """Ends every connection and the listening."""
        self._stopping = True
        # shutdown() wakes the accept() that close() alone would leave asleep
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            for s in self._sockets:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self._changed.notify_all()
        for t in self._threads:
            t.join(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def _spawn(self, target, *args):
        t = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(t)
        t.start()

    # ---- what a test says and asks ----

    def on(self, step, action, times=None, connection=None, match=None, delay=0):
        """Answers `step` with `action`: a reply (lines separated by newlines), HANG, CLOSE or RESET; `times` times or always,
        on that connection (1, 2, ...) or on all, when `match` is in the command's line; `delay` seconds later."""
        with self._changed:
            self._rules.append([step, action, times, connection, match, delay])
        return self

    def forget(self):
        """Answers every step as if nothing had been scripted."""
        with self._changed:
            self._rules.clear()

    def wait_for(self, predicate, timeout=TIMEOUT):
        """Waits until predicate(self) is true."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not predicate(self):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"not within {timeout} s; the server saw {self.commands}")
                self._changed.wait(left)

    def wait_mails(self, n=1, timeout=TIMEOUT):
        """Waits for that many accepted mails and returns them."""
        self.wait_for(lambda s: len(s.mails) >= n, timeout)
        return list(self.mails)

    def close_all(self):
        """Hangs up on everybody, between commands."""
        with self._changed:
            for s in self._sockets:
                s.shutdown(socket.SHUT_RDWR)

    def verbs(self, connection=None):
        """The verbs that came, in order."""
        return [c.verb for c in list(self.commands) if connection in (None, c.connection)]

    # ---- the server ----

    def _accept(self):
        while True:
            try:
                s, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self.open_now += 1
                self.open_max = max(self.open_max, self.open_now)
                number = self.connections
                self.open.add(number)
                self._sockets.add(s)
                self._changed.notify_all()
            self._spawn(self._serve, s, number)

    def _serve(self, s, number):
        session = Session(self, s, number)
        try:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session.run()
        except (Hangup, OSError):
            pass
        finally:
            session.leave()
            with self._changed:
                self._sockets.discard(session.socket)
            session.socket.close()

    def _wrap(self, s):
        wrapped = self._context.wrap_socket(s, server_side=True)
        with self._changed:
            self._sockets.discard(s)
            self._sockets.add(wrapped)
        return wrapped

    def _action(self, step, number, line):
        with self._changed:
            for rule in self._rules:
                on, action, times, connection, match, delay = rule
                if on != step or times == 0 or connection not in (None, number) or (match and match not in line):
                    continue
                if times is not None:
                    rule[2] -= 1
                return action, delay
        return None, 0

    def _note(self, what, value):
        with self._changed:
            getattr(self, what).append(value)
            self._changed.notify_all()


class Session:
    """One connection."""

    def __init__(self, stub, s, number):
        self.stub, self.socket, self.number = stub, s, number
        self.buffer = b""
        self.secure = self.left = False
        self.sender, self.recipients = None, []

    def leave(self):
        """The connection counts as open no more."""
        with self.stub._changed:
            if not self.left:
                self.left = True
                self.stub.open_now -= 1
                self.stub.open.discard(self.number)
                self.stub._changed.notify_all()

    def encrypt(self):
        self.socket = self.stub._wrap(self.socket)
        self.buffer, self.secure = b"", True

    def send(self, text):
        data = text.replace("\r\n", "\n").replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n"
        if not self.stub.drip:
            self.socket.sendall(data)
            return
        for i in range(len(data)):
            self.socket.sendall(data[i:i + 1])

    def act(self, step, default, line="", accepted=None):
        """Answers a step as scripted; returns the code that was sent. Before 2xx is sent, `accepted` is run."""
        action, delay = self.stub._action(step, self.number, line)
        if delay:
            time.sleep(delay)
        if action is None:
            action = default
        if accepted and isinstance(action, str) and action.startswith("2"):
            accepted()
        if action is HANG:
            with self.stub._changed:
                # until the test is over
                self.stub._changed.wait_for(lambda: self.stub._stopping)
            raise Hangup
        if action is RESET:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Hangup
        if action is CLOSE:
            raise Hangup
        if action is None:
            return 0
        self.send(action)
        if action.startswith("421"):
            raise Hangup
        return int(action[:3]) if action[:3].isdigit() else 0

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise Hangup
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("utf-8", "replace")

    def run(self):
        if self.stub.tls == "direct":
            self.encrypt()
        self.act("GREETING", DEFAULTS["GREETING"])
        while True:
            line = self.line()
            verb = line.split(" ")[0].upper()
            self.stub._note("commands", Command(self.number, verb, line, len(self.buffer)))
            getattr(self, "do_" + verb, self.do_other)(verb, line)

    def do_other(self, verb, line):
        self.act(verb, DEFAULTS.get(verb, "502 5.5.1 what?"), line)

    def do_EHLO(self, verb, line):
        names = ["mail.example.test", *self.stub.capabilities]
        if self.stub.tls == "starttls" and not self.secure:
            names.append("STARTTLS")
        if self.stub.login:
            names.append(f"AUTH {self.stub.mechanisms}")
        self.act("EHLO", "\n".join(f"250{'-' if i + 1 < len(names) else ' '}{name}" for i, name in enumerate(names)), line)

    def do_STARTTLS(self, verb, line):
        if self.act("STARTTLS", DEFAULTS["STARTTLS"], line) == 220:
            self.encrypt()

    def do_AUTH(self, verb, line):
        words = line.split(" ")
        if words[1].upper() == "PLAIN":
            if len(words) < 3:
                self.send("334 ")
                words.append(self.line())
            login = tuple(base64.b64decode(words[2]).decode().split("\0")[1:])
        elif words[1].upper() == "CRAM-MD5":
            self.send("334 " + base64.b64encode(b"<1.2@mail.example.test>").decode())
            user, digest = base64.b64decode(self.line()).decode().split(" ")
            want = hmac.new(self.stub.login[1].encode(), b"<1.2@mail.example.test>", "md5").hexdigest()
            login = user, self.stub.login[1] if digest == want else None
        elif words[1].upper() in ("XOAUTH2", "OAUTHBEARER"):
            said = base64.b64decode(words[2]).decode()
            login = re.search(r"(?:^user=|,a=)([^,\x01]+)", said)[1], re.search(r"\x01auth=Bearer ([^\x01]+)\x01", said)[1]
            if login != self.stub.login:
                self.send("334 " + base64.b64encode(b'{"status":"401","schemes":"bearer"}').decode())
                self.line()
        else:
            self.send("334 VXNlcm5hbWU6")
            user = base64.b64decode(self.line()).decode()
            self.send("334 UGFzc3dvcmQ6")
            login = user, base64.b64decode(self.line()).decode()
        good = login == self.stub.login
        self.act("AUTH", DEFAULTS["AUTH"] if good else "535 5.7.8 authentication failed", line)

    def do_MAIL(self, verb, line):
        if self.act("MAIL", DEFAULTS["MAIL"], line) // 100 == 2:
            self.sender, self.recipients = line[line.index("<") + 1:line.index(">")], []

    def do_RCPT(self, verb, line):
        default = DEFAULTS["RCPT"] if self.sender is not None else "503 5.5.1 MAIL first"
        if self.act("RCPT", default, line) // 100 == 2:
            self.recipients.append(line[line.index("<") + 1:line.index(">")])

    def do_DATA(self, verb, line):
        default = DEFAULTS["DATA"] if self.recipients else "554 5.5.1 no valid recipients"
        if self.act("DATA", default, line) != 354:
            return
        self.act("BODY", None)
        # A line's end stands before the first line too, so that a lone dot at the very start is seen.
        self.buffer = b"\r\n" + self.buffer
        while b"\r\n.\r\n" not in self.buffer:
            self.more()
        data, self.buffer = self.buffer.split(b"\r\n.\r\n", 1)
        data = (data + b"\r\n").replace(b"\r\n.", b"\r\n")[2:]
        mail = Mail(self.number, self.sender, self.recipients, data)
        self.stub._note("bodies", mail)
        self.sender, self.recipients = None, []
        self.act("DOT", DEFAULTS["DOT"] if mail.recipients else "554 5.5.1 no valid recipients", " ".join(mail.recipients),
                 accepted=lambda: self.stub._note("mails", mail))

    def do_RSET(self, verb, line):
        self.sender, self.recipients = None, []
        self.act("RSET", DEFAULTS["RSET"], line)

    def do_QUIT(self, verb, line):
        self.leave()
        self.act("QUIT", DEFAULTS["QUIT"], line)
        raise Hangup
