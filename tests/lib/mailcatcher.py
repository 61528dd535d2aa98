"""A mail server that delivers nothing and keeps everything: aiosmtpd with STARTTLS (or TLS from the first byte) and AUTH.

On its own:  python3 -m lib.mailcatcher --dir DIR [--port PORT] [--tls]
It prints how to reach it and writes every mail into DIR/NNN-RECIPIENT.eml until it is stopped.
"""

import argparse
import asyncio
import atexit
import collections
import contextlib
import email
import email.policy
import logging
import re
import shutil
import signal
import ssl
import threading
import time
import warnings
from datetime import datetime, timezone
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult

from . import certs
from .paths import TIMEOUT, make_temp_dir

logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns of its own use of deprecated names

USER, PASSWORD = "postmaster@example.test", "correct horse battery staple"


class Mail:
    """One mail as it arrived: envelope, bytes, and the moment at which its final dot was read."""

    def __init__(self, session, envelope):
        self.at = datetime.now(timezone.utc)
        self.sender = envelope.mail_from
        self.recipients = list(envelope.rcpt_tos)
        self.bytes = envelope.original_content
        self.tls = session.ssl is not None
        self.user = session.auth_data
        self.peer = session.peer
        self.parsed = email.message_from_bytes(self.bytes, policy=email.policy.default)

    @property
    def subject(self):
        return str(self.parsed["Subject"] or "")

    def body(self, kind="plain"):
        """The decoded text of the part text/KIND, or None."""
        part = self.parsed.get_body((kind,))
        return part.get_content() if part else None

    def __repr__(self):
        return f"<Mail to {self.recipients}: {self.subject!r}>"


class Gate:
    """Holds the server's answers back until release(); see MailCatcher.hold()."""

    def __init__(self, loop):
        self._loop, self._open, self._held = loop, asyncio.Event(), threading.Event()

    async def _pass(self):
        self._held.set()
        await self._open.wait()

    def wait_held(self, timeout=TIMEOUT):
        """Until a client waits for an answer."""
        if not self._held.wait(timeout):
            raise TimeoutError(f"nobody came within {timeout} s")

    def release(self):
        self._loop.call_soon_threadsafe(self._open.set)


class MailCatcher:
    """port 0 takes a free one. tls="starttls" as on port 587, "direct" as on 465, "none" for plain text. With auth=False
    anyone may send. `dir`: also write each mail there as an .eml file."""

    def __init__(self, dir=None, host="127.0.0.1", port=0, tls="starttls", auth=True, user=USER, password=PASSWORD,
                 cert_dir=None, pipelining=True, size_limit=20 * 1024 * 1024):
        self.dir = Path(dir) if dir else None
        self.host, self.port, self.tls, self.auth = host, port, tls, auth
        self.user, self.password = user, password
        self.pipelining, self.size_limit = pipelining, size_limit
        self.cert_dir, self._own_cert_dir = cert_dir, cert_dir is None
        self._changed = threading.Condition()
        self._mails = []
        self._replies = collections.defaultdict(list)
        self.connections = 0  # made so far
        self.refused_logins = 0
        self.commands = []  # (verb, argument) of every MAIL, RCPT and DATA
        self._kept = None
        self._thread = self._server = None
        self._protocols = set()
        self._gates = {}

    # ---- life ----

    @property
    def ca_file(self):
        """The certificate of the authority that a client must trust."""
        return str(self.cert_dir / "ca.pem")

    def start(self):
        """Serves from a thread of its own; returns self when connections are taken."""
        if self._own_cert_dir and self.cert_dir is None:
            self.cert_dir = make_temp_dir("pgmqd-cert-")
            self.cert_dir.chmod(0o755)
            atexit.register(shutil.rmtree, self.cert_dir, ignore_errors=True)
            certs.make(self.cert_dir)
        if self.dir:
            self.dir.mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)
        return self

    async def _listen(self):
        context = None
        if self.tls != "none":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert_dir / "server.pem", self.cert_dir / "server.key")
        direct = context if self.tls == "direct" else None
        self._server = await self._loop.create_server(lambda: self._protocol(context), self.host, self.port, ssl=direct)
        self.port = self._server.sockets[0].getsockname()[1]

    def _protocol(self, context):
        self.connections += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # aiosmtpd warns of AUTH without STARTTLS, which is what "direct" is
            protocol = SMTP(
                self, loop=self._loop, hostname="mail.example.test", ident="ESMTP", timeout=300, enable_SMTPUTF8=True,
                data_size_limit=self.size_limit,
                tls_context=context if self.tls == "starttls" else None, require_starttls=self.tls == "starttls",
                auth_required=self.auth, auth_require_tls=self.tls == "starttls", authenticator=self._authenticate)
        self._protocols.add(protocol)
        return protocol

    def stop(self):
        """Closes the port and every connection; mails stay readable, and start() serves the same port again."""
        if not self._thread:
            return

        async def close():
            self._server.close()
            await self._server.wait_closed()
            for protocol in self._protocols:
                if protocol.transport:
                    with contextlib.suppress(AttributeError):  # Python 3.11's TLS transport, when it was closed before
                        protocol.transport.abort()
            self._protocols.clear()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._thread = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # ---- what a test asks for ----

    def mails(self):
        """All mails so far."""
        with self._changed:
            return list(self._mails)

    def clear(self):
        """Forgets the mails so far."""
        with self._changed:
            self._mails.clear()

    def wait_for(self, what=1, timeout=TIMEOUT):
        """A number: waits until that many mails are here, and returns them all. A function of a mail: returns the first
        mail that it is true for. TimeoutError when that does not come about."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                if callable(what):
                    for mail in self._mails:
                        if what(mail):
                            return mail
                elif len(self._mails) >= what:
                    return list(self._mails)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no such mail within {timeout} s; there are {self._mails}")
                self._changed.wait(left)

    def wait_to(self, recipient, timeout=TIMEOUT):
        """The first mail to that recipient."""
        return self.wait_for(lambda mail: recipient in mail.recipients, timeout)

    def answer(self, verb, reply, match=None, times=None):
        """Answers MAIL, RCPT or DATA (the reply to the final dot) with `reply`, when `match` is None or is in the
        argument (the recipients for DATA), `times` times or always."""
        with self._changed:
            self._replies[verb].append([reply, match, times])

    def hold(self, verb):
        """From now on answers to MAIL, RCPT or DATA (the final dot) wait for the release() of the returned gate."""
        self._gates[verb] = Gate(self._loop)
        return self._gates[verb]

    async def _scripted(self, verb, argument):
        if verb in self._gates:
            await self._gates[verb]._pass()
        with self._changed:
            self.commands.append((verb, argument))
            for row in self._replies[verb]:
                reply, match, times = row
                if (match is None or match in argument) and times != 0:
                    if times is not None:
                        row[2] -= 1
                    return reply
        return None

    # ---- aiosmtpd's hooks ----

    def _authenticate(self, server, session, envelope, mechanism, data):
        login = getattr(data, "login", b""), getattr(data, "password", b"")
        if login == (self.user.encode(), self.password.encode()):
            return AuthResult(success=True, auth_data=self.user)
        with self._changed:
            self.refused_logins += 1
            self._changed.notify_all()
        return AuthResult(success=False, handled=False)

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        if self.pipelining:
            responses.insert(-1, "250-PIPELINING")
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        reply = await self._scripted("MAIL", address)
        if reply:
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server, session, envelope, address, options):
        reply = await self._scripted("RCPT", address)
        if reply:
            return reply
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Ok"

    def keep_bytes(self):
        """A list of the bytes of each mail from now on, also of one that is answered with an error."""
        self._kept = []
        return self._kept

    async def handle_DATA(self, server, session, envelope):
        if self._kept is not None:
            self._kept.append(envelope.original_content)
        reply = await self._scripted("DATA", " ".join(envelope.rcpt_tos))
        if reply:
            return reply
        mail = Mail(session, envelope)
        if self.tls == "direct":
            mail.tls = True
        with self._changed:
            self._mails.append(mail)
            number = len(self._mails)
            self._changed.notify_all()
        if self.dir:
            name = re.sub(r"[^A-Za-z0-9.@_-]", "_", mail.recipients[0] if mail.recipients else "nobody")
            (self.dir / f"{number:03}-{name}.eml").write_bytes(mail.bytes)
        return f"250 2.0.0 Ok: queued as {number:03}"


def main():
    """The catcher as a program."""
    parser = argparse.ArgumentParser(prog="python3 -m lib.mailcatcher", description=__doc__.split("\n")[0])
    parser.add_argument("--dir", required=True, help="where the mails go, as .eml files")
    parser.add_argument("--port", type=int, default=0, help="a port of 127.0.0.1 (default: a free one)")
    parser.add_argument("--tls", action="store_true", help="TLS from the first byte, as on port 465, instead of STARTTLS")
    args = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with MailCatcher(dir=args.dir, port=args.port, tls="direct" if args.tls else "starttls") as catcher:
        print(f"SMTP_HOST={catcher.host}\nSMTP_PORT={catcher.port}\nSMTP_USER={catcher.user}\nSMTP_PASS='{catcher.password}'\n"
              f"# trust {catcher.ca_file}\n# mails go to {Path(args.dir).resolve()}", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
