"""pgqueuer under measurement: `setup`, `produce COUNT GAP_MS`, `latency COUNT SETTINGS` or `drain COUNT SETTINGS`; SETTINGS is "defaults" or
"tuned"; the database is in the PG* variables."""

import asyncio
import sys
import time

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

# What the library does by itself, and what it was made to do: uvloop as the loop, and as many jobs a statement as drain fastest.
SETTINGS = {"defaults": {}, "tuned": {"batch_size": 500}}


async def setup():
    await Queries(AsyncpgDriver(await asyncpg.connect())).install()


async def produce(count, gap_ms):
    """Prints "ID MONOTONIC", nanoseconds before the call."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect()))
    started = time.monotonic()
    for n in range(count):
        await asyncio.sleep(max(0, started + (n + 1) * gap_ms / 1000 - time.monotonic()))
        now = time.monotonic_ns()
        print((await queries.enqueue("bench", None))[0], now)


def queue(connection, count, started):
    """A PgQueuer that notes when jobs start, and ends after the last."""
    pgq = PgQueuer.from_asyncpg_connection(connection)

    @pgq.entrypoint("bench")
    async def bench(job):
        started[job.id] = time.monotonic_ns()
        if len(started) == count:
            pgq.shutdown.set()
    return pgq


async def latency(count, settings):
    """Prints "ID MONOTONIC" of each start; the first line says that it listens."""
    started = {}
    connection = await asyncpg.connect()
    pgq = queue(connection, count, started)
    run = asyncio.create_task(pgq.run(**SETTINGS[settings]))
    look = await asyncpg.connect()
    while not await look.fetchval("select count(*) from pg_stat_activity where pid = $1 and state = 'idle' and query ilike '%pgqueuer%'",
                                  connection.get_server_pid()):
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    print("ready", flush=True)
    await run
    for id_, at in started.items():
        print(id_, at)


async def drain(count, settings):
    """Prints the seconds from the first job's start until all are completed in the database."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect()))
    for left in range(count, 0, -10000):
        n = min(left, 10000)
        await queries.enqueue(["bench"] * n, [None] * n, [0] * n)
    started = {}
    await queue(await asyncpg.connect(), count, started).run(**SETTINGS[settings])
    print((time.monotonic_ns() - min(started.values())) / 1e9)


def main():
    what, *argv = sys.argv[1:]
    call = {"setup": setup, "produce": produce, "latency": latency, "drain": drain}[what](*(int(a) if a.isdigit() else a for a in argv))
    if "tuned" in argv:
        import uvloop
        uvloop.run(call)
    else:
        asyncio.run(call)


if __name__ == "__main__":
    main()
