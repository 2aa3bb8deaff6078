// Recovery: a client follows a counter through the cutting proxy. No number may be lost and none repeated, and the
// session must be the same all along.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import readline from 'node:readline';

import { followCounter } from '../clients/counter.mjs';
import { seeded, startCutter } from './cutter.mjs';
import { ROOT, bounded, configFile } from './server.mjs';

const CUTS = Number(process.env.BRIGHTWIRE_CUTS ?? 200);
const SEED = Number(process.env.BRIGHTWIRE_SEED ?? Math.floor(Math.random() * 2 ** 32));
const ITEM = 'counter';
// Numbers after the last cut, which must come without anything missing either.
const UPDATES_AFTER = 50;
// Enough for ten minutes at the rate below, and few enough that what waits during a recovery of four seconds fits the buffers.
const NUMBERS = 60_000;
const RATE_HZ = 100;
const WAIT_MS_MAX = 480_000;

/**
 * Options of a server that has the counter. Its sessions wait longer than by default: the Python client needs some 25
 * seconds to notice that a WebSocket is gone which it polls on.
 */
export function counterServer() {
  const directory = join(ROOT, 'target/peers-replay');
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'counter.csv');
  const lines = ['time_ms,item,n'];
  for (let n = 1; n <= NUMBERS; n++) lines.push(`${n * 10},${ITEM},${n}`);
  writeFileSync(`${file}.${process.pid}`, `${lines.join('\n')}\n`);
  renameSync(`${file}.${process.pid}`, file); // another run may be reading it
  const config = configFile('counter', '[sessions]\nrecovery_timeout = "1m"\nrecovery_age = "1m"\n');
  return ['--config', config, '--replay', file, '--rate', String(RATE_HZ)];
}

/** What a follower has reported. */
class Account {
  #last = null;
  #session = null;
  #waiters = [];
  updates = 0;
  gaps = [];
  repeated = [];
  told = 0;
  sessions = 0;
  recoveries = 0;
  errors = [];
  statuses = [];

  take(kind, value) {
    if (kind === 'status') {
      this.statuses.push(value);
      if (value.endsWith('TRYING-RECOVERY')) this.recoveries++;
    } else if (kind === 'session' && value !== this.#session) {
      this.#session = value;
      this.sessions++;
      this.#last = null; // another session begins where the feed is
    } else if (kind === 'lost') {
      this.told += Number(value);
    } else if (kind === 'error') {
      this.errors.push(value);
    } else if (kind === 'update') {
      const n = Number(value);
      if (this.#last !== null && n <= this.#last) this.repeated.push([this.#last, n]);
      if (this.#last !== null && n > this.#last + 1) this.gaps.push([this.#last, n]);
      this.#last = n;
      this.updates++;
    }
    this.#waiters = this.#waiters.filter(({ condition, done }) => !condition() || done());
  }

  until(condition) {
    return new Promise((resolve) => {
      if (condition()) resolve();
      else this.#waiters.push({ condition, done: () => resolve() });
    });
  }
}

/**
 * The case: `start({ address, transport, item }, report)` starts a follower and returns a function that ends it.
 * `share` is the part of all cuts that this client gets.
 */
export async function cutsCase(t, server, transport, start, share = 1) {
  const cutter = await startCutter(server.address, {
    random: seeded(SEED ^ [...transport].reduce((sum, c) => sum * 31 + c.charCodeAt(0), 7)),
    cutsMax: Math.ceil(CUTS * share),
    polls: transport === 'HTTP-POLLING',
  });
  const account = new Account();
  t.diagnostic(`BRIGHTWIRE_SEED=${SEED}`);
  const began = performance.now();
  const stop = await start({ address: `http://${cutter.address}`, transport, item: ITEM }, (kind, value) => account.take(kind, value));
  const summary = () => `${cutter.state.cuts} cuts ${JSON.stringify({ ...cutter.state.kinds, ...cutter.state.places })}, ` +
    `${account.recoveries} recoveries, ${account.sessions} sessions, ${account.updates} updates in ${((performance.now() - began) / 1000).toFixed(0)} s`;
  try {
    await bounded(cutter.done, WAIT_MS_MAX, 'the cuts did not come to an end');
    const seen = account.updates;
    await bounded(account.until(() => account.updates >= seen + UPDATES_AFTER), 60_000, 'no updates after the last cut');
  } catch (error) {
    throw new Error(`${error.message}: ${summary()}; last: ${account.statuses.slice(-12)} ${account.errors}`);
  } finally {
    await stop();
    await cutter.close();
  }
  t.diagnostic(summary());
  assert.deepEqual(account.errors, []);
  assert.deepEqual({ repeated: account.repeated, gaps: account.gaps, told: account.told }, { repeated: [], gaps: [], told: 0 }, summary());
  assert.equal(account.sessions, 1, `the client began new sessions: ${summary()}`);
}

/** A follower in this process. */
export function nodeFollower(ls) {
  return (options, report) => followCounter({ ls, ...options }, report);
}

/** A follower in a browser: `open(report)` opens its page. */
export function webFollower(open) {
  return async (options, report) => {
    const page = await open(report);
    await page.follow(options);
    return () => page.close();
  };
}

/** A follower in a process of its own. */
export function processFollower(program, script) {
  return ({ address, transport, item }, report) => {
    const child = spawn(program, [script, address, transport, item], { stdio: ['pipe', 'pipe', 'pipe'] });
    let log = '';
    child.stderr.on('data', (chunk) => { log = (log + chunk).slice(-4096); });
    const exited = new Promise((done) => {
      child.once('error', (error) => done(error.message));
      child.once('close', (code, signal) => done(signal ?? code));
    });
    let stopping = false;
    exited.then((code) => { if (!stopping) report('error', `the client ended with ${code}: ${log}`); });
    readline.createInterface({ input: child.stdout }).on('line', (line) => {
      const blank = line.indexOf(' ');
      report(line.slice(0, blank), line.slice(blank + 1));
    });
    return async () => {
      stopping = true;
      child.stdin.end();
      // Its library may keep threads for a while: the case has what it needs.
      await bounded(exited, 5_000, 'late').catch(() => child.kill('SIGKILL'));
    };
  };
}
