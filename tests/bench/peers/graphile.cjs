// graphile.cjs: graphile-worker under measurement: `setup`, `latency COUNT` or `drain COUNT SETTINGS` ("defaults" or
// "tuned"); the database is in the PG* variables.
"use strict";
const { EventEmitter } = require("events");
const { run, runMigrations, Logger } = require("graphile-worker");

const mode = process.argv[2];
const count = Number(process.argv[3]);
const logger = new Logger(() => () => {});

async function latency() {
  const events = new EventEmitter();
  events.once("pool:listen:success", () => console.log("ready"));
  let seen = 0;
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  const runner = await run({
    events, logger, noHandleSignals: true, concurrency: 10,
    taskList: {
      bench: (payload, helpers) => {
        const now = process.hrtime.bigint();
        console.log(`${helpers.job.id} ${now}`);
        if (++seen === count) done();
      },
    },
  });
  await all;
  await runner.stop();
}

async function drain() {
  let seen = 0;
  let first;
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  const runner = await run({
    logger, noHandleSignals: true,
    ...(process.argv[4] === "tuned" ? { preset: { worker: { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } } } : {}),
    taskList: {
      bench: () => {
        first ??= process.hrtime.bigint();
        if (++seen === count) done();
      },
    },
  });
  await all;
  await runner.stop(); // the completions that are still batched
  console.log(Number(process.hrtime.bigint() - first) / 1e9);
}

(async () => {
  if (mode === "setup") await runMigrations({ logger });
  else if (mode === "latency") await latency();
  else await drain();
})().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
