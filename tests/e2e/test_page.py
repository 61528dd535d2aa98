"""The status page, and what it asks for: in a real browser, in both languages, on a small and a large screen."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from lib.httpclient import Described, Http, free_port
from lib.paths import BUILDDIR, SRCDIR, TIMEOUT
from lib.rig import email_queue

pytest.importorskip("jsonschema")
webdriver = pytest.importorskip("selenium.webdriver", reason="python3-selenium is not installed")
from selenium.common.exceptions import TimeoutException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

TOKEN = "a-token-of-the-tests"
SHOTS = Path(BUILDDIR) / "quickstart" / "screenshots"
VIEWS = ("queues", "messages", "failures", "schedules", "processes", "mails")
NAMES = sorted(p.name.removesuffix(".html.mustache") for p in (SRCDIR / "templates" / "en").glob("*.html.mustache"))
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture
def page(rig):
    """pgmqd with two queues, of which one has dead letters, and a client that has the token."""
    port = free_port()
    rig.start(env={"PGMQD_HTTP_TOKEN": TOKEN}, http_listen=f"127.0.0.1:{port}",
              queues={"email_queue": email_queue(rig.catcher), "analytics_queue": {"plugin": "null"}})
    for n in range(3):
        rig.send(f"person{n}@example.test", template="missing", variables={"secret": f"<b>only for operators {n}</b>"})
    rig.send("somebody@example.test")
    rig.catcher.wait_to("somebody@example.test")
    client = Described(port, TOKEN)
    wait_dead(client, 3)
    client.describe()
    return client


def wait_dead(client, n):
    """Waits until email_queue has that many dead letters and nothing else."""
    client.wait_json("/api/queues", 200, lambda answer: [(q["dead_letters"], q["waiting"] + q["leased"]) for q in answer["queues"] if q["queue"] == "email_queue"] == [(n, 0)])


# ---- the routes ----

def test_files(page):
    stranger = Http(page.port)
    status, kind, text = stranger("/")
    assert (status, kind) == (200, "text/html; charset=utf-8") and "default-src 'none'" in stranger.headers["Content-Security-Policy"]
    tag = stranger.headers["ETag"]
    assert stranger("/", headers={"If-None-Match": tag})[0] == 304
    for name in re.findall(r'(?:src|href)="([a-z]+\.[a-z]+)"', text):
        assert stranger(f"/{name}")[0] == 200
    assert not re.search(r'(?:src|href)="(https?:)?//', text), "the page loads something from elsewhere"


def test_dead_letters(page):
    status, groups = page.json("/api/failures")
    (group,) = groups["groups"]
    assert (group["queue"], group["class"], group["count"]) == ("email_queue", "permanent", 3) and "missing" in group["reason"]
    status, found = page.json("/api/queues/email_queue/dead-letters?reason=MISSING")
    assert [sorted(letter) for letter in found["letters"]] == [["attempts", "class", "died_at", "id", "reason", "redrives"]] * 3
    newest = found["letters"][0]["id"]
    status, older = page.json(f"/api/queues/email_queue/dead-letters?before={newest}")
    assert len(older["letters"]) == 2 and older["more"] is False
    stranger = Http(page.port)
    assert stranger.json(f"/api/queues/email_queue/dead-letters/{newest}")[0] == 401
    assert "only for operators" not in stranger("/api/queues/email_queue/dead-letters")[2]
    status, letter = page.json(f"/api/queues/email_queue/dead-letters/{newest}")
    assert json.loads(letter["body"])["variables"] == {"secret": "<b>only for operators 2</b>"}
    for path in ("/api/queues/nothing/dead-letters", "/api/queues/email_queue/dead-letters/999", "/api/queues/email_queue/dead-letters/x"):
        status, answer = page.json(path)
        assert (status, answer["error"]["code"]) == (404, "not_found"), path


def test_redrive_and_purge(page, rig):
    ids = [letter["id"] for letter in page.json("/api/queues/email_queue/dead-letters")[1]["letters"]]
    path = "/api/queues/email_queue/"
    assert Http(page.port).json(path + "redrive", method="POST", body={"all": True})[0] == 401
    for wrong in ({}, {"ids": []}, {"ids": ["1"]}, {"ids": 1}, {"everything": True}, {"reason": ""}, {"all": False}):
        status, answer = page.json(path + "purge", method="POST", body=wrong)
        assert (status, answer["error"]["code"]) == (400, "bad_choice"), wrong
    status, answer = page.json(path + "purge", method="POST", body={"ids": [ids[0]]})
    assert (status, answer) == (200, {"purged": 1}) and len(rig.dead()) == 2
    status, answer = page.json(path + "redrive", method="POST", body={"reason": "missing"})
    assert status == 200 and sorted(pair["id"] for pair in answer["redriven"]) == sorted(ids[1:])
    wait_dead(page, 2)  # they fail again
    assert page.json("/api/queues/none/redrive", method="POST", body={"all": True})[0] == 404
    assert page("/api/queues/email_queue/purge", method="POST", headers={"Content-Type": "text/plain"}, body="{}")[0] == 415


def test_status_and_schedules(page, rig):
    status, found = page.json("/api/status")
    assert status == 200 and found["hearing"] is True and found["authorized"] is True
    workers = {p["queue"]: p for p in found["processes"] if p["role"] == "worker"}
    assert set(workers) == {"email_queue", "analytics_queue"} and all(p["up"] and p["connected"] for p in workers.values())
    history = page.wait_json("/api/status", 200, lambda answer: answer["history"]["last"] >= 1)["history"]
    assert {len(v) for v in history["queues"]["email_queue"].values()} == {history["last"]}
    status, found = page.json("/api/schedules")
    assert "update-appointment-statuses" in [s["name"] for s in found["schedules"]]


def test_pause_and_resume(page, rig):
    assert page.json("/api/queues/email_queue/pause", method="POST", body={"reason": "mail server moves"}) == (200, {"changed": True})
    row = page.wait_json("/api/queues", 200, lambda a: a["queues"][1]["worker"]["state"] == "paused")["queues"][1]
    assert "mail server moves" in row["paused"]
    rig.send("later@example.test")
    assert page.json("/api/queues/email_queue/pause", method="POST", body={}) == (200, {"changed": False})
    assert page.json("/api/queues/email_queue/resume", method="POST", body={}) == (200, {"changed": True})
    rig.catcher.wait_to("later@example.test")


def test_previews(page):
    listed = page.json("/api/templates")[1]["templates"]
    assert [t["name"] for t in listed] == NAMES and all(t["langs"] == ["en", "ru"] for t in listed)
    stranger = Http(page.port)
    for name in NAMES:
        for lang in ("en", "ru"):
            status, kind, html = stranger(f"/api/templates/{name}/{lang}?scheme=dark")
            assert (status, kind) == (200, "text/html; charset=utf-8") and len(html.encode()) < 100_000
            assert "sandbox" in stranger.headers["Content-Security-Policy"] and "prefers-color-scheme" not in html
            assert stranger(f"/api/templates/{name}/{lang}?part=subject")[2].strip()
    for path in ("/api/templates/none/ru", "/api/templates/..%2Fsamples/ru", "/api/templates/report_ready/..", "/api/templates/report_ready/xx"):
        assert stranger(path)[0] == 404, path


def test_everything_is_described(page):
    """Each route of operators answers as the description says, also where it refuses; that none is missing is seen in test_jobs.py."""
    letters = "/api/queues/email_queue/dead-letters"
    newest = page.json(letters)[1]["letters"][0]["id"]
    schedule = "/api/schedules/cleanup-old-assessments"
    for path in ("/ready", schedule, "/api/cron/next?cron=@daily", "/readyz", "/livez", "/health", "/metrics", "/api/status?after=1", "/api/schedules", "/api/failures", "/api/queues", letters,
                 f"{letters}/{newest}", "/api/queues/email_queue/messages?state=archived", f"/api/queues/email_queue/messages/{newest}?state=dead", "/api/actions", "/api/history?span=24h&queue=email_queue", "/api/dispatchers", "/api/templates", f"/api/templates/{NAMES[0]}/en?part=txt"):
        assert page(path)[0] == 200, path
    assert page(f"{letters}?before=x")[0] == 400
    for what, body in (("pause", {}), ("resume", {}), ("redrive", {"reason": "no such reason"}), ("purge", {"reason": "no such reason"}),
                       ("cancel", {"ids": [999]}), ("run-now", {"ids": [999]}), ("requeue", {"ids": [999]})):
        path = f"/api/queues/email_queue/{what}"
        assert page(path, method="POST", body=body)[0] == 200, what
        assert page(path, method="POST", body="[]")[0] == (200 if what == "resume" else 400), what  # it takes nothing from its body
        assert page(path.replace("email_queue", "none"), method="POST", body={"all": True})[0] == 404, what
        assert page(path, method="POST", headers={"Authorization": "Bearer other"}, body=body)[0] == 401, what
        assert page(path, method="POST", headers={"Host": "evil.example.test"}, body=body)[0] == 421, what
    assert page("/api/queues/email_queue/delay", method="POST", body={"ids": [999], "seconds": 1})[0] == 200
    assert page("/api/queues/email_queue/edit", method="POST", body={"ids": [999], "version": "1-1", "body": "{}"})[0] == 409
    assert page("/api/queues/email_queue/send", method="POST", body={})[0] == 400
    for what, body in (("run", {}), ("pause", {}), ("resume", {}), ("edit", {"cron": "@daily"})):
        assert page(f"{schedule}/{what}", method="POST", body=body)[0] in (200, 202), what
    described = {(m.upper(), p) for p, ms in page.spec["paths"].items() for m in ms if not p.startswith(("/api/{type}", "/api/cron", "/api/mail", "/api/payment"))}
    assert described - {("GET", "/api/openapi.json")} <= {(m, p) for m, p, _ in page.seen}


# ---- the page ----

class Browser:
    """Chromium on the page; every wait is for something that the page shows."""

    def __init__(self, client, width=1280, height=900, dark=False, lang="en"):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", f"--lang={lang}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.url = f"http://127.0.0.1:{client.port}/"
        self.screen(width, height, dark)
        self.driver.get(self.url)
        self.language(lang)

    def screen(self, width, height, dark=False):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})

    def language(self, lang):
        if self.js("return document.documentElement.lang") != lang:
            self.click("#lang")

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def one(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def until(self, test, what=""):
        """Waits for it; a page that looks seldom, since its last look took long, is made to look now as a tab is that comes to the front."""
        for _ in range(6):
            try:
                return WebDriverWait(self.driver, TIMEOUT / 6, 0.05, ignored_exceptions=(Exception,)).until(lambda d: test(), what)
            except TimeoutException as e:
                late = e
                self.js("document.dispatchEvent(new Event('visibilitychange'))")
        self.shot("late")
        raise AssertionError(f"{what or late.msg}: {self.js('return document.body.innerText')}") from late

    def click(self, css):
        self.until(lambda: self.one(css).is_displayed(), css)
        self.js("arguments[0].click()", self.one(css))

    def view(self, name):
        self.js("location.hash = arguments[0]", f"#{name}")
        self.until(lambda: self.one(f"#{name}").is_displayed(), name)

    def text(self, css):
        return self.one(css).text

    def shot(self, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(SHOTS / f"{name}.png"))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.driver.quit()


UNNAMED = """
return [...document.querySelectorAll("button, a, input, select, iframe, [role=img]")].filter(el => el.checkVisibility()).filter(el => {
  const label = el.labels?.length ? el.labels[0].textContent : "";
  return !(el.getAttribute("aria-label") || el.title || label || el.textContent || "").trim();
}).map(el => el.outerHTML)"""

MISMATCH = """
const letters = s => s.toLowerCase().replace(/[^\\p{L}\\p{N} ]/gu, "").replace(/\\s+/g, " ").trim();
return [...document.querySelectorAll("button[aria-label], a[aria-label]")].filter(el => el.checkVisibility() && !letters(el.getAttribute("aria-label")).includes(letters(el.textContent)))
  .map(el => el.outerHTML)"""

FAINT = """
const lum = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const parse = s => (s.match(/[0-9.]+/g) ?? []).map(Number);
const back = el => { for (; el; el = el.parentElement) { const c = parse(getComputedStyle(el).backgroundColor); if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
return [...document.querySelectorAll("main *, header *, footer *")].filter(el => el.checkVisibility() && !el.closest(":disabled, svg, .unseen, iframe") &&
  [...el.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).filter(el => {
  const a = lum(parse(getComputedStyle(el).color).slice(0, 3)), b = lum(back(el).slice(0, 3)), size = parseFloat(getComputedStyle(el).fontSize);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < (size >= 24 ? 3 : 4.5);
}).map(el => el.outerHTML.slice(0, 120))"""


def test_in_the_browser(page, rig):
    """What an operator does: looks around, in each language, size and colour; reads a body, deletes one letter, requeues the others, pauses."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromium-driver are not installed")
    with Browser(page) as b:
        b.until(lambda: b.text("#pulse") == "All is well")
        b.until(lambda: len(b.all("#queue-table tbody")) == len(page.json("/api/queues")[1]["queues"]))
        assert b.text("[data-queue=email_queue] [data-name=Dead]") == "3"
        for lang, width, height, dark in (("en", 1280, 900, False), ("ru", 1280, 900, True), ("ru", 390, 844, False), ("en", 390, 844, True)):
            b.screen(width, height, dark)
            b.language(lang)
            for view in VIEWS:
                b.view(view)
                b.until(lambda: b.one(f"#{view}").text.strip() and "undefined" not in b.one(f"#{view}").text)
                if view == "failures":
                    b.until(lambda: len(b.all("#letter-table tbody tr")) == 3 and b.all("#groups .group"))
                if view == "messages":
                    b.js("location.hash = '#messages/email_queue/archived'")
                    b.until(lambda: len(b.all("#message-table tbody tr")) == 1 and b.one("#messages-queue").get_attribute("value") == "email_queue")
                if view == "schedules":
                    b.until(lambda: b.all("#schedule-table tbody tr"))
                if view == "mails":
                    b.until(lambda: b.text("#mail-subject"))
                b.shot(f"{view}-{lang}-{'phone' if width < 500 else 'desktop'}-{'dark' if dark else 'light'}")
                b.until(lambda: b.js("return document.documentElement.scrollWidth <= innerWidth"), f"{view} is wider than {width}")
                b.until(lambda: b.js("return [...document.querySelectorAll('.card')].every(c => c.scrollWidth <= c.clientWidth)"), f"a card of {view} hides its right end at {width} in {lang}")
                b.until(lambda: b.js("const r = document.querySelector('#tabs [aria-current]').getBoundingClientRect(); return r.left >= 0 && r.right <= innerWidth"), f"the tab of {view} is off the screen")
                assert b.js(UNNAMED) == [], view
                assert b.js(FAINT) == [], (view, lang, dark)
        b.screen(1280, 900)
        b.language("en")
        # what is seen of a button is in its name; the active tab is on the screen, however small that is
        assert b.js(MISMATCH) == []
        # charts of other spans, from the database; the dispatchers of the database
        b.view("queues")
        b.click("#span button:nth-child(3)")
        b.until(lambda: "12 h 0 min ago" in b.text("#chart-settled").replace("\u00a0", " "))
        options = "return [...document.querySelector(arguments[0]).options].map(o => o.text)"
        b.until(lambda: b.js(options, "#span-queue")[:1] == ["All queues"] and len(b.js(options, "#span-dispatcher")) == 2)
        b.js("const s = document.getElementById('span-dispatcher'); s.selectedIndex = 1; s.dispatchEvent(new Event('change'))")
        b.until(lambda: b.js("return performance.getEntriesByType('resource').some(r => r.name.includes('span=24h&dispatcher='))"))
        b.click("#span button:first-child")
        b.view("processes")
        b.until(lambda: "alive" in b.text("#dispatcher-table") and "email_queue" in b.text("#dispatcher-table"))
        # a queue opens by the keyboard, and stays open
        b.view("queues")
        button = b.until(lambda: b.one("[data-queue=email_queue] button[aria-expanded]"))
        b.js("arguments[0].focus()", button)
        button.send_keys(Keys.ENTER)
        b.until(lambda: b.one("[data-queue=email_queue] .details .facts").is_displayed())
        assert "in use" in b.text("[data-queue=email_queue] .details .facts"), "the state of the mail provider"
        b.shot("details-en-desktop-light")
        # a body asks for the token; a wrong one is refused
        b.view("failures")
        b.until(lambda: len(b.all("#letter-table tbody tr")) == 3)
        b.click("#letter-table tbody tr:first-child td.more button")
        for given in ("a-wrong-token-of-tests", TOKEN):
            b.until(lambda: b.one("#token-dialog").is_displayed())
            b.until(lambda: given != TOKEN or b.text("#token-error"))
            b.one("#token-input").send_keys(given + Keys.ENTER)
            assert given == TOKEN or b.text("#token") == "Token", "a wrong token is not kept"
        b.until(lambda: "only for operators 2" in b.text("#body-text"))
        assert b.js("return document.querySelectorAll('#body-text b').length") == 0
        b.shot("body-en-desktop-light")
        b.one("#body-dialog").send_keys(Keys.ESCAPE)
        # only what is shown can be chosen
        b.click("#letter-table tbody tr:first-child input")
        b.until(lambda: b.one("#purge").is_enabled())
        b.language("ru")
        b.until(lambda: b.one("#letter-table tbody tr:first-child input").is_selected())
        b.one("#letters-reason").send_keys("no such reason")
        b.until(lambda: b.one("#letters-empty").is_displayed() and not b.one("#purge").is_enabled())
        b.one("#letters-reason").clear()
        b.language("en")
        b.until(lambda: len(b.all("#letter-table tbody tr")) == 3 and not b.one("#purge").is_enabled())
        # one is deleted, the others are requeued
        for word, box, left in (("purge", "tbody tr:first-child input", 2), ("redrive", "#letters-all", 0)):
            b.click(f"#letter-table {box}")
            b.click(f"#{word}")
            b.until(lambda: b.one("#ask-dialog").is_displayed())
            b.shot(f"{word}-en-desktop-light")
            b.click("#ask-yes")
            b.until(lambda: b.text("#toast").startswith("1 deleted" if word == "purge" else "2 requeued"))
        wait_dead(page, 2)
        # messages: one with its life; delayed ones are searched, edited, run and cancelled
        for n in range(3):
            rig.enqueue({"template": "report_ready", "to": f"later{n}@example.test", "n": n}, delay=3600)
        b.js("location.hash = '#messages/email_queue/delayed'")
        b.until(lambda: len(b.all("#message-table tbody tr")) == 3)
        assert "example.test" not in b.text("#message-table")
        b.one("#messages-where").send_keys("n=1" + Keys.ENTER)
        b.until(lambda: len(b.all("#message-table tbody tr")) == 1)
        b.click("#message-table tbody tr td.more button")
        b.until(lambda: b.one("#message-dialog").is_displayed() and "later1@example.test" in b.text("#message-body"))
        assert not b.one("#message-headers").is_displayed(), "it has none"
        assert "enqueued" in b.text("#message-life") and [x.text for x in b.all("#message-dialog button") if x.is_displayed()] == ["Run now", "Delay", "Cancel", "Edit body", "Close"]
        assert b.js(UNNAMED) == []
        b.shot("message-en-desktop-light")
        b.click("#message-edit")
        b.js("document.getElementById('message-new').value = '{\"big\": 9007199254740993}'")
        b.click("#message-save")
        b.until(lambda: "9007199254740993" in b.text("#message-body") and "body edited" in b.text("#message-life"))
        b.one("#message-dialog").send_keys(Keys.ESCAPE)
        b.one("#messages-where").clear()
        b.one("#messages-where").send_keys(Keys.ENTER)
        b.until(lambda: len(b.all("#message-table tbody tr")) == 3)
        b.click("#message-table tbody tr:first-child input")
        b.until(lambda: b.text("#messages-cancel") == "Cancel (1)")
        b.click("#messages-cancel")
        b.until(lambda: b.one("#ask-dialog").is_displayed())
        b.shot("cancel-en-desktop-light")
        b.one("#ask-input").send_keys("asked by phone")
        b.click("#ask-yes")
        b.until(lambda: b.text("#toast").startswith("1 cancelled"))
        b.until(lambda: len(b.all("#message-table tbody tr")) == 2)
        b.click("#messages-cancel")  # none is chosen: all that match, which are counted first
        b.until(lambda: b.one("#ask-dialog").is_displayed() and b.text("#ask-title") == "Cancel 2 messages of email_queue?")
        b.click("#ask-yes")
        b.until(lambda: b.one("#messages-empty").is_displayed())
        b.js("location.hash = '#messages/email_queue/cancelled'")
        b.until(lambda: len(b.all("#message-table tbody tr")) == 3 and "cancelled by HTTP" in b.text("#message-table"))
        # a schedule: its text is checked while it is typed; it is edited, run and paused
        b.view("schedules")
        b.click("#schedule-table tbody tr:first-child td.more button")
        b.until(lambda: b.one("#schedule-dialog").is_displayed() and len(b.all("#schedule-next li")) == 5)
        assert not b.one("#schedule-save").is_enabled() and b.js(UNNAMED) == []
        b.js("const c = document.getElementById('schedule-cron'); c.value = '0 25 * * *'; c.dispatchEvent(new Event('input'))")
        b.until(lambda: 'the hour "25" is none' in b.text("#schedule-error") and not b.one("#schedule-save").is_enabled() and not b.all("#schedule-next li"))
        b.js("const c = document.getElementById('schedule-cron'); c.value = '30 6 * * *'; c.dispatchEvent(new Event('input'))")
        b.js("const c = document.getElementById('schedule-zone'); c.value = 'Europe/Moscow'; c.dispatchEvent(new Event('input'))")
        b.until(lambda: len(b.all("#schedule-next li")) == 5 and all("6:30" in li.text for li in b.all("#schedule-next li")))
        b.shot("schedule-en-desktop-light")
        b.click("#schedule-save")
        b.until(lambda: b.text("#toast").startswith("Saved the times"))
        b.click("#schedule-run")
        b.until(lambda: b.one("#ask-dialog").is_displayed())
        b.click("#ask-yes")
        b.until(lambda: b.text("#schedule-runs tbody tr:first-child .badge") == "ok")
        b.click("#schedule-pause")
        b.until(lambda: b.text("#schedule-pause") == "Resume" and "disabled" in b.text("#schedule-facts"))
        b.one("#schedule-dialog").send_keys(Keys.ESCAPE)
        assert page.json("/api/schedules")[1]["schedules"][0]["cron"] == "30 6 * * *"
        # pause, and resume
        b.view("queues")
        b.click("[data-queue=email_queue] .buttons button")
        b.until(lambda: b.one("#ask-dialog").is_displayed())
        b.one("#ask-input").send_keys("mail server moves" + Keys.ENTER)
        b.until(lambda: b.text("[data-queue=email_queue] .badge") == "paused" and "mail server moves" in b.text("#notes"))
        b.until(lambda: b.text("[data-queue=email_queue] .buttons button") == "Resume")
        b.click("[data-queue=email_queue] .buttons button")
        b.until(lambda: b.text("[data-queue=email_queue] .badge") == "ready")
        # many queues: found by name and by state, and sorted
        rig.db.execute("select pgmqd.create_queue('more_' || n) from generate_series(1, 60) n")
        rig.db.execute("select pgmqd.enqueue('more_7', '{}') from generate_series(1, 5)")
        b.until(lambda: len(b.all("#queue-table tbody")) > 60 and b.one("#filter-bar").is_displayed() and "dense" in b.one("#queue-table").get_attribute("class"))
        choose = "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))"
        b.js(choose, "sort", "waiting")
        b.until(lambda: b.one("#queue-table tbody").get_attribute("data-queue") == "more_7")
        b.js(choose, "filter-state", "ready")
        b.until(lambda: {el.get_attribute("data-queue") for el in b.all("#queue-table tbody")} == {"email_queue", "analytics_queue"})
        b.js(choose, "filter-state", "")
        b.shot("many-queues-en-desktop-light")
        assert b.js("return document.documentElement.scrollWidth <= innerWidth") and b.js(UNNAMED) == []
        # the token is this tab's alone
        assert b.js("return [sessionStorage.token, localStorage.token]") == [TOKEN, None]
        # pgmqd goes away, and says so
        rig.daemon.stop()
        b.until(lambda: b.text("#pulse") == "pgmqd does not answer")
        b.shot("unreachable-en-desktop-light")
        assert {badge.text for badge in b.all("#queue-table .badge")} == {"unknown"}
        errors = [line["message"] for line in b.driver.get_log("browser") if line["level"] == "SEVERE"]
        assert [e for e in errors if "401" not in e and "ERR_CONNECTION" not in e] == []


AXE_RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, { iframes: false }).then(r => done(r.violations.map(v => `${v.id}: ${v.nodes.map(n => n.html.slice(0, 160)).join(" | ")}`)), e => done([String(e)]));"""


@pytest.mark.skipif("PGMQD_AXE" not in os.environ, reason="PGMQD_AXE names no axe.min.js (npm install axe-core)")
def test_with_axe(page, rig):
    """axe-core finds nothing: all views and dialogs, both languages, both colours, at 390, 768 and 1280 pixels."""
    source = Path(os.environ["PGMQD_AXE"]).read_text(encoding="utf-8")
    rig.db.execute("select pgmqd.run_now('delete-old-messages')")
    found = []

    def look(what):
        found.extend(f"{what}: {text}" for text in b.driver.execute_async_script(AXE_RUN))

    with Browser(page) as b:
        b.driver.set_script_timeout(60)
        b.js(source)
        b.click("#token")
        look("token")
        b.one("#token-input").send_keys(TOKEN + Keys.ENTER)
        b.until(lambda: b.text("#token") == "Token ✓")
        for lang in ("en", "ru"):
            for dark in (False, True):
                for width in (390, 768, 1280):
                    b.screen(width, 900, dark)
                    b.language(lang)
                    for view in VIEWS:
                        b.view(view)
                        b.until(lambda: b.one(f"#{view}").text.strip())
                        look((view, lang, dark, width))
                b.js("location.hash = '#messages/email_queue/archived'")
                for view, button, dialog in (("schedules", "#schedule-table tbody tr td.more button", "#schedule-dialog"), ("failures", "#letter-table tbody tr td.more button", "#body-dialog"),
                                             ("messages/email_queue/archived", "#message-table tbody tr td.more button", "#message-dialog")):
                    b.js("location.hash = arguments[0]", f"#{view}")
                    b.click(button)
                    b.until(lambda: b.one(dialog).is_displayed())
                    look((dialog, lang, dark))
                    b.one(dialog).send_keys(Keys.ESCAPE)
    assert found == [], "\n".join(sorted(set(found)))
