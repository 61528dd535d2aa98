"""pgmqd render: the command line, and the HTML that it prints for each of our mails."""

import json
import os
import re
import subprocess
from html.parser import HTMLParser

import pytest

from lib import paths, valgrind
from lib.daemon import command_line

NAMES = [
    "appointment_confirmation",
    "appointment_reminder",
    "checkup_completed",
    "payment_completed",
    "payment_failed",
    "report_ready",
]
SAMPLES = paths.SRCDIR / "templates" / "samples"


def run(*args, stdin=None, env=None):
    """Runs pgmqd render without any settings; returns (exit status, stdout, stderr)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PGMQD_")}
    directories = paths.directories()
    if "template_dir" in directories:
        environment["PGMQD_TEMPLATE_DIR"] = directories["template_dir"]
    environment.update({**valgrind.environment(), **(env or {})})
    done = subprocess.run(command_line("render", *args), input=stdin, capture_output=True, text=True, env=environment, timeout=60 * valgrind.SLOW)
    return done.returncode, done.stdout, done.stderr


def sample(name, lang):
    return SAMPLES / f"{name}{'' if lang == 'ru' else '.' + lang}.json"


class Page(HTMLParser):
    """Checks that tags are balanced, and gathers what the tests ask for."""

    VOID = {"meta", "br", "img", "hr", "link", "input"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.errors, self.links, self.text, self.attrs, self.meta = [], [], [], [], {}, {}

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.errors.append(f"line {self.getpos()[0]}: <{tag}> has an attribute twice")
        attrs = dict(attrs)
        self.attrs.setdefault(tag, []).append(attrs)
        if tag == "a":
            self.links.append(attrs["href"])
        if tag == "meta":
            self.meta[attrs.get("name") or "charset"] = attrs.get("content") or attrs.get("charset")
        if tag == "p" and "p" in self.open:
            self.errors.append(f"line {self.getpos()[0]}: <p> in a <p>")
        if tag in ("table", "div", "h1") and "p" in self.open:
            self.errors.append(f"line {self.getpos()[0]}: <{tag}> in a <p>")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"line {self.getpos()[0]}: </{tag}> closes something else")

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


@pytest.mark.parametrize("lang", ["ru", "en"])
@pytest.mark.parametrize("name", NAMES)
def test_html_is_sound(name, lang):
    data = json.loads(sample(name, lang).read_text()) | {"brand_name": "Balansity", "brand_team": "Little Otter"}
    rc, html, err = run(name, "--lang", lang, "--data", "-", "--part", "html", stdin=json.dumps(data))
    assert (rc, err) == (0, "")

    page = Page()
    page.feed(html)
    page.close()
    assert page.errors == []
    assert page.open == []
    assert html.startswith("<!DOCTYPE html>\n")
    assert page.attrs["html"] == [{"lang": lang}]
    assert page.meta["charset"] == "utf-8"
    assert page.meta["color-scheme"] == "light dark"
    assert len(html.encode()) < 100_000
    assert "<img" not in html and "<script" not in html, "nothing that is fetched, so that nobody is followed"

    text = re.sub(r"\s+", " ", " ".join(page.text))
    assert "Balansity" in text and "Little Otter" in text and data["customer_name"] in text
    for url in [v for k, v in data.items() if k.endswith("_url")]:
        assert url in page.links
    # The one action: the same link as a button and in plain, besides the foot's two.
    assert len(page.links) == 4 and page.links[0] == page.links[1]
    assert page.links[1] in text
    assert "mailto:" + data["support_email"] in page.links
    # What mail programs show beside the subject.
    preheader = re.search(r"mso-hide:all\">\n(.*?)\n", html).group(1)
    assert 40 <= len(preheader) <= 110, preheader


def test_all_parts_have_headings():
    rc, out, err = run("report_ready", "--lang", "en", "--data", sample("report_ready", "en"))
    assert (rc, err) == (0, "")
    assert re.findall(r"^==== .*$", out, re.M) == ["==== subject (en) ====", "==== txt (en) ====", "==== html (en) ===="]
    assert out.startswith("==== subject (en) ====\nYour report of 5 May 2026 is ready\n\n====")


def test_open_writes_a_file_of_its_own(tmp_path):
    env = {"TMPDIR": str(tmp_path), "DISPLAY": "", "PATH": str(tmp_path)}
    rc, out, err = run("report_ready", "--lang", "en", "--data", sample("report_ready", "en"), "--open", env=env)
    assert (rc, err) == (0, "")
    (written,) = tmp_path.iterdir()
    assert out == f"{written}\n" and written.suffix == ".html" and written.stat().st_mode & 0o077 == 0
    printed = run("report_ready", "--lang", "en", "--data", sample("report_ready", "en"), "--part", "html")[1]
    assert written.read_text().rstrip("\n") == printed.rstrip("\n")


def test_data_from_standard_input_and_default_language():
    data = '{"amount": "5 ₽", "retry_url": "https://x.example.test"}'
    rc, out, err = run("payment_failed", "--data", "-", "--part", "subject", stdin=data)
    assert (rc, out, err) == (0, "Оплата не прошла: 5 ₽\n", "")
    # a language that has no such template, as a mail does without
    rc, out, err = run("payment_failed", "--lang", "kk", "--data", "-", "--part", "subject", stdin=data)
    assert (rc, out) == (0, "Оплата не прошла: 5 ₽\n")
    assert err == 'pgmqd render: no template "payment_failed" in language kk: shown in ru\n'
    assert run("payment_failed", "--lang", "ru-RU", "--data", "-", "--part", "subject", stdin=data)[2] == ""


@pytest.mark.parametrize(
    "args, data, message",
    [
        (["nothing_like_it", "-l", "ru"], "{}", 'no template "nothing_like_it" in language ru (looked in '),
        (["../ru/report_ready"], "{}", "not a template's name"),
        (["appointment_reminder"], "{}", "required variables are missing or empty: appointment_date, appointment_time"),
        (["report_ready"], "[]", "the variables are not a JSON object"),
        (["report_ready"], '{"a": 1,\n\n  b}', "-:3: this is not valid JSON"),
        (["report_ready"], '{"a": "x\\u0000y"}', "-:1: \\u0000 cannot be part of a text"),
        (["report_ready"], "{} {}", "this is not valid JSON"),
        (["report_ready"], "", "this is not valid JSON"),
        (["report_ready"], '{"report_url": "javascript:x"}', "the value of report_url must start with https://"),
        (["report_ready", "--template-dir", "/nowhere"], "{}", "/nowhere: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_and_ends_with_1(args, data, message):
    rc, out, err = run(*args, "--data", "-", stdin=data)
    assert (rc, out) == (1, "")
    assert message in err
    assert err.startswith("pgmqd render: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["a", "b"],
        ["a", "--part", "pdf"],
        ["a", "--html"],
        ["a", "--file", "x"],
        ["--file", "x", "--lang", "ru"],
        ["--file", "-", "--data", "-"],
        ["a", "--no-such-option"],
    ],
)
def test_wrong_command_lines_end_with_2(args):
    rc, out, err = run(*args)
    assert (rc, out) == (2, "")
    assert "pgmqd render --help" in err


def test_help():
    rc, out, err = run("--help")
    assert (rc, err) == (0, "")
    assert out.startswith("usage: pgmqd render [TEMPLATE] [OPTIONS]")


def test_environment_names_the_directory(tmp_path):
    (tmp_path / "de").mkdir()
    for part in ("subject", "txt", "html"):
        (tmp_path / "de" / f"gruss.{part}.mustache").write_text("{{x}}")
    env = {"PGMQD_TEMPLATE_DIR": str(tmp_path)}
    rc, out, err = run("gruss", "-l", "de-AT", "-d", "-", "-p", "html", stdin='{"x": "<"}', env=env)
    assert (rc, out, err) == (0, "&lt;\n", "")


def test_file_of_ones_own(tmp_path):
    (tmp_path / "partials").mkdir()
    (tmp_path / "partials" / "item.mustache").write_text("* {{.}}\n")
    (tmp_path / "list.mustache").write_text("{{#items}}\n  {{> item}}\n{{/items}}\n{{> absent}}{{> ../list}}end")
    (tmp_path / "list.txt.mustache").write_text("{{x}}")
    (tmp_path / "data.json").write_text('{"items": ["a", "<b>", 3], "x": "<x>"}')
    base = ["--data", tmp_path / "data.json", "--partials", tmp_path / "partials", "--file"]
    assert run(*base, tmp_path / "list.mustache") == (0, "  * a\n  * &lt;b&gt;\n  * 3\nend", "")
    assert run(*base, tmp_path / "list.mustache", "--text") == (0, "  * a\n  * <b>\n  * 3\nend", "")
    assert run(*base, tmp_path / "list.txt.mustache") == (0, "<x>", "")
    assert run(*base, tmp_path / "list.txt.mustache", "--html") == (0, "&lt;x&gt;", "")
    assert run(*base, "-", stdin="{{x}}") == (0, "&lt;x&gt;", "")


def test_broken_file_and_broken_partial(tmp_path):
    broken = tmp_path / "broken.mustache"
    broken.write_text("one\n{{#two}}\n")
    user = tmp_path / "user.mustache"
    user.write_text("{{> broken}}")
    message = f'pgmqd render: {broken}:2: the section "two" is never closed\n'
    assert run("--file", broken) == (1, "", message)
    assert run("--file", user, "--partials", tmp_path) == (1, "", message)
    assert run("--file", tmp_path / "absent") == (1, "", f"pgmqd render: {tmp_path / 'absent'}: No such file or directory\n")
