// graphile.cjs: graphile-worker under measurement: `setup`, `latency COUNT`, `drain COUNT SETTINGS` ("defaults" or "tuned"), or `mail COUNT
// PORT`: each by nodemailer's pool, its subject, text and HTML on standard input. The database is in the PG* variables.
"use strict";
const { EventEmitter } = require("events");
const { run, runMigrations, Logger } = require("graphile-worker");

const mode = process.argv[2];
const count = Number(process.argv[3]);
const logger = new Logger(() => () => {});

// Runs one task for every job as it comes; returns when COUNT are done.
async function idle(tasks) {
  const events = new EventEmitter();
  events.once("pool:listen:success", () => console.log("ready"));
  let seen = 0;
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  const counted = (task) => async (...given) => { await task(...given); if (++seen === count) done(); };
  const runner = await run({
    events, logger, noHandleSignals: true, concurrency: 10,
    taskList: Object.fromEntries(Object.entries(tasks).map(([name, task]) => [name, counted(task)])),
  });
  await all;
  await runner.stop();
}

const latency = () => idle({ bench: (payload, helpers) => console.log(`${helpers.job.id} ${process.hrtime.bigint()}`) });

async function mail() {
  const what = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const pool = require("nodemailer").createTransport({ pool: true, host: "127.0.0.1", port: Number(process.argv[4]), maxConnections: 10, maxMessages: Infinity,
    ignoreTLS: true });
  await idle({ mail: (payload) => pool.sendMail({ from: "noreply@example.test", to: payload.to, ...what }) });
  pool.close();
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
  else if (mode === "mail") await mail();
  else await drain();
})().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
