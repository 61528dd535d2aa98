// pgboss.cjs: pg-boss under measurement: `latency COUNT SETTINGS` or `drain COUNT SETTINGS`; SETTINGS is
// "defaults" or "tuned"; the database is in the PG* variables.
"use strict";
const module_ = require("pg-boss");
const PgBoss = module_.PgBoss ?? module_;

const mode = process.argv[2];
const count = Number(process.argv[3]);
const tuned = process.argv[4] === "tuned";

// From send() to the handler, one job after the other; tuned is the shortest interval of polling that it takes.
async function latency(boss) {
  const sent = [];
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  let seen = 0;
  await boss.work("bench", tuned ? { pollingIntervalSeconds: 0.5, batchSize: 100 } : {}, async (jobs) => {
    const now = process.hrtime.bigint();
    for (const job of jobs) {
      console.log(Number(now - sent[job.data.n]) / 1e6);
      if (++seen === count) done();
    }
  });
  for (let n = 0; n < count; n++) {
    await new Promise((resolve) => setTimeout(resolve, tuned ? 137 : 2137)); // by itself it takes one job in 2 s
    sent[n] = process.hrtime.bigint();
    await boss.send("bench", { n });
  }
  await all;
}

async function fill(boss) {
  for (let n = 0; n < count; n += 5000) {
    const jobs = Array.from({ length: Math.min(5000, count - n) }, () => ({ name: "bench", data: { n: 1 } }));
    if (boss.insert.length > 1) await boss.insert("bench", jobs);
    else await boss.insert(jobs);
  }
}

// By itself: work(), which waits for the next poll after each batch. From the first job's start.
async function drain(boss) {
  await fill(boss);
  let from;
  let seen = 0;
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  await boss.work("bench", async (jobs) => {
    from ??= process.hrtime.bigint();
    seen += jobs.length;
    if (seen >= count) done();
  });
  await all;
  console.log(Number(process.hrtime.bigint() - from) / 1e9);
}

// Its own fetch() and complete() by 500.
async function drainTuned(boss) {
  await fill(boss);
  const from = process.hrtime.bigint();
  for (let jobs; (jobs = await boss.fetch("bench", { batchSize: 500 }))?.length;) await boss.complete("bench", jobs.map((job) => job.id));
  console.log(Number(process.hrtime.bigint() - from) / 1e9);
}

(async () => {
  const boss = new PgBoss({ schema: "pgboss", supervise: false, schedule: false });
  boss.on("error", console.error);
  await boss.start();
  await boss.createQueue("bench");
  if (mode === "latency") await latency(boss);
  else await (tuned ? drainTuned(boss) : drain(boss));
})().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
