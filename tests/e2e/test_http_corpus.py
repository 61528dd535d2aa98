"""HTTP: the cases of two public conformance suites (Http11Probe, h1spec) for a server, by their names there, and the answers that RFC 9112 allows.

What we leave out on purpose is marked so: a chunked body gets 411, an absolute target or "*" 400, since nobody needs them here.
"""

import re
import socket

import pytest

from lib.daemon import Daemon, conf
from lib.httpclient import Http, free_port
from lib.paths import TIMEOUT

HOST = b"Host: localhost\r\n"
OK, BAD = (200,), (400,)
OWN = (411,)  # no chunked body


def get(headers=b"", target=b"/livez", method=b"GET", version=b"HTTP/1.1", host=HOST):
    return b"%s %s %s\r\n%s%s\r\n" % (method, target, version, host, headers)


def post(headers, body=b""):
    return get(headers, method=b"POST") + body


def te(value, body=b"0\r\n\r\n", more=b""):
    return post(b"Transfer-Encoding: " + value + b"\r\n" + more, body)


LENGTH = b"Content-Length: 5\r\n"
# Name: (request, the status that the first answer may have).
CASES = {
    # ---- has to be served ----
    "BASELINE": (get(), OK),
    "edge cases of a valid GET": (b"GET /livez HTTP/1.1\r\nhoSt:\tlocalhost\r\nempty:\r\n\r\n", OK),
    "LEADING-CRLF": (b"\r\n\r\n" + get(), OK),
    "empty header value": (get(b"X-Empty-Header: \r\n"), OK),
    "POST-CL-BODY": (post(LENGTH, b"hello"), (405,)),
    "POST-CL-ZERO": (post(b"Content-Length: 0\r\n"), (405,)),
    "POST-NO-CL-NO-TE": (post(b""), (405,)),
    "CL-TRAILING-SPACE": (post(b"Content-Length: 5  \r\n", b"hello"), (405,)),
    "CL-EXTRA-LEADING-SP": (post(b"Content-Length:   5\r\n", b"hello"), (405,)),
    "CL-TAB-BEFORE-VALUE": (post(b"Content-Length:\t5\r\n", b"hello"), (405,)),
    "GET-WITH-CL-BODY": (get(LENGTH) + b"hello", OK + BAD),
    "HEAD-CL-BODY": (get(LENGTH, method=b"HEAD") + b"hello", OK + BAD),
    "OPTIONS-CL-BODY": (get(LENGTH, method=b"OPTIONS") + b"hello", (400, 405)),
    "HTTP10-NO-HOST": (get(version=b"HTTP/1.0", host=b""), OK),
    "Expect": (get(b"Expect: 100-continue\r\n"), OK + (100,)),
    "EXPECT-100-CL": (post(b"Expect: 100-continue\r\n" + LENGTH, b"hello"), (100, 405)),
    "UPGRADE-UNKNOWN": (get(b"Connection: Upgrade\r\nUpgrade: totally-made-up/1.0\r\n"), OK),
    "UPGRADE-MISSING-CONN": (get(b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), OK),
    "UPGRADE-POST": (post(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), (405,)),
    "RANGE-OVERLAPPING": (get(b"Range: bytes=0-,0-,0-\r\n"), OK),
    "TRANSFER_ENCODING": (get(b"Transfer_Encoding: chunked\r\n"), OK + BAD),
    "UNDERSCORE-CL": (get(b"Content_Length: 5\r\n"), OK + BAD),
    "BARE-LF-REQUEST-LINE": (b"GET /livez HTTP/1.1\n" + HOST + b"\r\n", BAD),
    "BARE-LF-HEADER": (b"GET /livez HTTP/1.1\r\nHost: localhost\n\r\n", BAD),
    # ---- the first line ----
    "MULTI-SP-REQUEST-LINE": (b"GET  /livez HTTP/1.1\r\n" + HOST + b"\r\n", BAD),
    "REQUEST-LINE-TAB": (b"GET\t/livez\tHTTP/1.1\r\n" + HOST + b"\r\n", BAD),
    "MISSING-TARGET": (b"GET HTTP/1.1\r\n" + HOST + b"\r\n", BAD),
    "FRAGMENT-IN-TARGET": (get(target=b"/livez#a"), BAD),
    "ASTERISK-WITH-GET": (get(target=b"*"), BAD),
    "OPTIONS-STAR": (get(target=b"*", method=b"OPTIONS"), BAD),  # on purpose
    "ABSOLUTE-FORM": (get(target=b"http://localhost/livez"), BAD),  # on purpose
    "ABSOLUTE-URI-HOST-MISMATCH": (get(target=b"http://evil.example.test/livez"), BAD),
    "HTTP09-REQUEST": (b"GET /livez\r\n\r\n", BAD),
    "without a version": (b"GET / \r\n\r\n", BAD),
    "INVALID-VERSION": (get(version=b"HTTP/9.9"), (400, 505)),
    "HTTP12-VERSION": (get(version=b"HTTP/1.2"), (400, 505)),
    "VERSION-MISSING-MINOR": (get(version=b"HTTP/1"), BAD),
    "VERSION-LEADING-ZEROS": (get(version=b"HTTP/01.01"), BAD),
    "VERSION-WHITESPACE": (get(version=b"HTTP/ 1.1"), BAD),
    "VERSION-CASE": (get(version=b"http/1.1"), BAD),
    "invalid prefix": (b"Extra line" + get(), (400, 501)),
    "METHOD-CASE": (get(method=b"get"), (400, 501)),
    "METHOD-TRACE": (get(method=b"TRACE"), (405, 501)),
    "TRACE-WITH-BODY": (get(LENGTH, method=b"TRACE") + b"hello", (400, 405)),
    "METHOD-CONNECT": (get(target=b"localhost:80", method=b"CONNECT"), (400, 405, 501)),
    "LONG-METHOD": (get(method=b"A" * 8000), (400, 431, 501)),
    "LONG-URL": (get(target=b"/" + b"a" * 100000), (414, 431)),
    "NUL-IN-URL": (get(target=b"/liv\0ez"), BAD),
    "NON-ASCII-URL": (get(target=b"/caf\xc3\xa9"), BAD),
    "URL-OVERLONG-UTF8": (get(target=b"/%c0%af"), BAD),
    "URL-PERCENT-NULL": (get(target=b"/livez%00"), BAD),
    "URL-PERCENT-CRLF": (get(target=b"/livez%0d%0aX:%201"), (400, 404)),
    "URL-BACKSLASH": (get(target=b"/a\\livez"), BAD),
    "WHITESPACE-ONLY-LINE": (b"   \r\n\r\n", BAD),
    "H2-PREFACE": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "BINARY-GARBAGE": (b"\x80\xff\x00\x13\x37\x00\r\n\r\n", BAD),
    # ---- headers ----
    "CR-ONLY-LINE-ENDING": (b"GET /livez HTTP/1.1\r" + HOST + b"\r\n", BAD),
    "BARE-CR-HEADER-VALUE": (get(b"X: a\rTransfer-Encoding: chunked\r\n"), BAD),
    "invalid line ending": (b"GET / HTTP/1.1\r\n" + HOST + b"\rSome-Header: Test\r\n\r\n", BAD),
    "SP-BEFORE-COLON": (get(b"X : 1\r\n"), BAD),
    "SP-BEFORE-COLON-CL": (post(b"Content-Length : 5\r\n", b"hello"), BAD),
    "TE-SP-BEFORE-COLON": (post(b"Transfer-Encoding : chunked\r\n"), BAD),
    "TAB-IN-NAME": (get(b"X\tY: 1\r\n"), BAD),
    "OBS-FOLD": (get(b"X: 1\r\n 2\r\n"), BAD),
    "TE-OBS-FOLD": (te(b"\r\n chunked"), BAD),
    "WHITESPACE-BEFORE-HEADERS": (b"GET /livez HTTP/1.1\r\n " + HOST + b"\r\n", BAD),
    "EMPTY-HEADER-NAME": (get(b": 1\r\n"), BAD),
    "INVALID-HEADER-NAME": (get(b"X-Invalid[]: test\r\n"), BAD),
    "NON-ASCII-HEADER-NAME": (get(b"X-\xc3\xa9: 1\r\n"), BAD),
    "HEADER-NO-COLON": (get(b"nothing\r\n"), BAD),
    "CONTROL-CHARS-HEADER": (get(b"X: a\x07b\r\n"), BAD),
    "NUL-IN-HEADER-VALUE": (get(b"X: a\0b\r\n"), BAD),
    "MANY-HEADERS": (get(b"X: 1\r\n" * 1000), (431,)),
    "LONG-HEADER-VALUE": (get(b"X: " + b"a" * 100000 + b"\r\n"), (431,)),
    "LONG-HEADER-NAME": (get(b"a" * 100000 + b": 1\r\n"), (431,)),
    "EXPECT-UNKNOWN": (get(b"Expect: 200-ok\r\n"), (417,)),
    **{f"two {name}": (get(f"{name}: 1\r\n{name.lower()}: 1\r\n".encode()), BAD) for name in (
        "Authorization", "Content-Type", "Cookie", "Content-Range", "Content-Location", "Access-Control-Request-Method", "Origin", "Referer", "User-Agent", "Range", "If-None-Match",
        "If-Modified-Since", "Idempotency-Key", "Last-Event-ID", "Max-Forwards", "Date", "From", "MIME-Version", "HTTP2-Settings", "Sec-WebSocket-Key", "Sec-Fetch-Site", "Proxy-Authorization")},
    **{f"two {name} are a list": (get(f"{name}: 1\r\n{name}: 1\r\n".encode()), OK) for name in ("Accept", "Accept-Encoding", "Cache-Control", "Connection", "Via", "X-Forwarded-For", "TE")},
    # ---- Host ----
    "MISSING-HOST": (get(host=b""), BAD),
    "DUPLICATE-HOST": (get(b"Host: other.example.test\r\n"), BAD),
    "DUPLICATE-HOST-SAME": (get(HOST), BAD),
    "HOST-WITH-USERINFO": (get(host=b"Host: user@localhost\r\n"), BAD),
    "HOST-WITH-PATH": (get(host=b"Host: localhost/a\r\n"), BAD),
    "HOST-EMPTY-VALUE": (get(host=b"Host: \r\n"), BAD),
    **{f"Host {value}": (get(host=b"Host: %s\r\n" % value.encode()), BAD) for value in (
        "localhost:abc", "localhost:80:80", "localhost:-1", ":80", "[::1", "::1", "[]", "[::1]x", "[localhost]", "local host", "localhost\\", "[::1%25lo]")},
    **{f"Host {value} of a probe": (get(host=b"Host: %s\r\n" % value.encode()), OK) for value in ("localhost:", "[::1]:80", "[::ffff:127.0.0.1]", "10.42.0.17:8089", "a_b-c.example.test")},
    "MULTIPLE-HOST-COMMA": (get(host=b"Host: localhost,evil.example.test\r\n"), BAD),
    # ---- the length ----
    **{f"CL {value}": (post(b"Content-Length: %s\r\n" % value.encode(), b"hello"), BAD) for value in (
        "abc", "+5", "-1", "-0", "-123456789123456789123456789", "1_0", "0o5", "0x5", "1 0", "", "5, 6", "5, 5", "005", "00", "0200")},
    "CL-OVERFLOW": (post(b"Content-Length: 99999999999999999999\r\n"), (400, 413)),
    "DUPLICATE-CL": (post(b"Content-Length: 5\r\nContent-Length: 10\r\n", b"hello"), BAD),
    "POST-CL-HUGE-NO-BODY": (post(b"Content-Length: 999999999\r\n"), (413,)),
    # ---- Transfer-Encoding ----
    "CHUNKED-BODY": (te(b"chunked", b"5\r\nhello\r\n0\r\n\r\n"), OWN),
    "CHUNKED-EMPTY": (te(b"chunked"), OWN),
    "CHUNKED-EXTENSION": (te(b"chunked", b"5;a=b\r\nhello\r\n0\r\n\r\n"), OWN),
    "CHUNK-SIZE-OVERFLOW": (te(b"chunked", b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), OWN),
    "TE-CASE-MISMATCH": (te(b"Chunked"), OWN),
    "TE-TAB-BEFORE-VALUE": (te(b"\tchunked"), OWN),
    "NORM-CASE-TE": (post(b"TRANSFER-ENCODING: chunked\r\n", b"0\r\n\r\n"), OWN),
    "TE-TRAILING-SPACE": (te(b"chunked ", more=LENGTH), BAD),
    "CL-TE-BOTH": (te(b"chunked", more=LENGTH), BAD),
    "TE and then CL": (post(LENGTH + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"), BAD),
    "TE-DUPLICATE-HEADERS": (te(b"chunked", more=b"Transfer-Encoding: identity\r\n"), BAD),
    "TE-HTTP10": (b"POST /livez HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
    "TE-VTAB": (te(b"\x0bchunked"), BAD),
    "TE-FORMFEED": (te(b"\x0cchunked"), BAD),
    "TE-NULL": (te(b"chunked\0"), BAD),
    **{f"TE {value} {'and CL' if more else ''}": (te(value.encode(), more=more), (400, 501)) for more in (b"", LENGTH) for value in (
        "", "identity", "xchunked", "gzip", "chunked, gzip", "gzip, chunked", "chunked, chunked", ",chunked", "chunked,", "chunked;a=b")},
}
BEHIND = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def server(cluster, migrated):
    port = free_port()
    with Daemon(conf(cluster.createdb("corpus", migrated), {"analytics_queue": {"plugin": "null"}}, http_listen=f"127.0.0.1:{port}")) as daemon:
        daemon.wait_ready()
        Http(port).wait_json("/livez", 200)
        yield daemon, port


def exchange(port, text):
    """All that the server says to a client that sends a text, and no more."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as s:
        try:
            s.sendall(text)
            s.shutdown(socket.SHUT_WR)
            while data := s.recv(65536):
                got += data
        except ConnectionError:
            pass  # it goes on sending behind a refusal
    return got


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def test_the_corpus(server):
    """Each request is answered as it has to be; behind a refusal, nothing that follows is taken for a request."""
    daemon, port = server
    before, wrong = daemon.children(), []
    for name, (text, allowed) in CASES.items():
        got = statuses(exchange(port, text))
        if not got or got[0] not in allowed:
            wrong.append((name, got, allowed))
        if allowed[0] >= 400 and got and got[0] not in (404, 405):
            more = statuses(exchange(port, text + BEHIND))
            if len(more) != 1:
                wrong.append((name, "a second request was seen", more))
    assert not wrong, "\n".join(map(str, wrong))
    assert daemon.children() == before


@pytest.mark.parametrize("n", range(1, len(get())))
def test_a_request_in_two_pieces(server, n):
    """It is waited for, wherever it was cut."""
    _, port = server
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.sendall(get()[:n])
        assert statuses(exchange(port, get())) == [200]  # so it has been read
        s.sendall(get()[n:])
        assert s.recv(12) == b"HTTP/1.1 200"


def test_connections_end_as_they_should(server):
    _, port = server
    for text in (get(b"Connection: close\r\n"), get(version=b"HTTP/1.0")):
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as s, s.makefile("rb") as f:
            s.sendall(text + BEHIND)
            assert statuses(f.read()) == [200]
    assert exchange(port, post(b"Content-Length: 5\r\n", b"he")) == b"", "a body that is not whole"
