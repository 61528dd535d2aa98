"""pgmqd under valgrind (./quickstart test --valgrind sets PGMQD_VALGRIND to a directory): how it is started, found, and what was found in it."""

import os
import re
from pathlib import Path

MEMCHECK = Path(__file__).with_name("memcheck")
ROOT = os.environ.get("PGMQD_VALGRIND")
# How much longer things take than they should: under valgrind.
SLOW = 10 if ROOT else 1
END = b"MEMCHECK-END"
_seen = {}  # {log: how much of it was looked at}


def active():
    return bool(ROOT)


def wrapper():
    """What comes before a program's name; nothing without valgrind."""
    return [str(MEMCHECK)] if ROOT else []


def environment():
    """Each process that runs tests has a directory of its own, so that what was found is told by the test that did it."""
    if not ROOT:
        return {}
    own = Path(ROOT) / str(os.getpid())
    own.mkdir(parents=True, exist_ok=True)
    return {"PGMQD_VALGRIND": str(own)}


def title(pid):
    """The title of a process, which is not in /proc/PID/cmdline: that is valgrind's. It is where the program has its arguments."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            begin, end, mode = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
            if begin.startswith("1ff") and mode.startswith("rw") and line.rstrip().endswith(" 0"):
                memory.seek(int(begin, 16))
                found = re.findall(rb"pgmqd: [a-z][^\0]*", memory.read(int(end, 16) - int(begin, 16)))
                if found:
                    return found[-1].decode()
    return ""


def check():
    """Fails with what memcheck has found since the last call, in processes that may still run."""
    if not ROOT:
        return
    found = []
    for log in sorted(Path(environment()["PGMQD_VALGRIND"]).glob("*.log")):
        ended = not os.path.exists(f"/proc/{log.stem}")
        with open(log, "rb") as f:
            f.seek(_seen.get(log, 0))
            text = f.read()
        end = text.rfind(END) + len(END) if END in text else 0
        found += re.findall(rb"MEMCHECK-BEGIN(.*?)" + END, text[:end], re.S)
        if ended:  # its number will be another's
            log.unlink()
            _seen.pop(log, None)
        else:
            _seen[log] = _seen.get(log, 0) + end
    assert not found, f"memcheck has {len(found)} complaints:\n" + b"\n".join(found[:5]).decode(errors="replace")
