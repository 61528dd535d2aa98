// graphmail.cjs: graphile-worker whose task sends a mail by nodemailer's pool: `PORT COUNT`; the database is in the PG* variables, the mail
// (subject, text, html) is standard input.
"use strict";
const { EventEmitter } = require("events");
const { run, Logger } = require("graphile-worker");
const nodemailer = require("nodemailer");

const [port, count] = process.argv.slice(2).map(Number);
const mail = JSON.parse(require("fs").readFileSync(0, "utf8"));
const pool = nodemailer.createTransport({ pool: true, host: "127.0.0.1", port, maxConnections: 10, maxMessages: Infinity, ignoreTLS: true });

(async () => {
  const events = new EventEmitter();
  events.once("pool:listen:success", () => console.log("ready"));
  let seen = 0;
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  const runner = await run({
    events, logger: new Logger(() => () => {}), noHandleSignals: true, concurrency: 10,
    taskList: {
      mail: async (payload) => {
        await pool.sendMail({ from: "noreply@example.test", to: payload.to, ...mail });
        if (++seen === count) done();
      },
    },
  });
  await all;
  await runner.stop();
  pool.close();
})().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
