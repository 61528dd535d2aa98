"""Reads a child's output in a thread and lets others wait for a line, so that no test needs to sleep or to poll."""

import threading
import time


class Lines:
    """Every line that came out of `stream` (a binary pipe) is kept, parsed by `parse`, and copied to the file `copy`."""

    def __init__(self, stream, copy=None, parse=None):
        self._stream, self._copy, self._parse = stream, copy, parse or (lambda line: line)
        self._changed = threading.Condition()
        self._items, self.ended = [], False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for raw in self._stream:
            if self._copy:
                self._copy.write(raw)
                self._copy.flush()
            item = self._parse(raw.decode("utf-8", "replace").rstrip("\n"))
            with self._changed:
                self._items.append(item)
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()
        self._stream.close()

    def snapshot(self):
        """All items so far."""
        with self._changed:
            return list(self._items)

    def mark(self):
        """The number of items so far: pass it as `start` to see only what comes after now."""
        with self._changed:
            return len(self._items)

    def wait(self, predicate, timeout, start=0):
        """The first item from index `start` on that satisfies `predicate`; None when time or the stream ran out."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                while start < len(self._items):
                    if predicate(self._items[start]):
                        return self._items[start]
                    start += 1
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    return None
                self._changed.wait(left)

    def join(self, timeout=10):
        """Waits until the stream is at its end."""
        self._thread.join(timeout)
