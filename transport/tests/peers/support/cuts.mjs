// Recovery: clients follow a counter through the cutting proxy. No number may be lost and none repeated, and each
// client's session must be the same all along.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import readline from 'node:readline';

import { seeded, startCutter } from './cutter.mjs';
import { ROOT, bounded, configFile } from './server.mjs';

const CUTS = Number(process.env.BRIGHTWIRE_CUTS ?? 200);
const SEED = Number(process.env.BRIGHTWIRE_SEED ?? Math.floor(Math.random() * 2 ** 32));
const NODE_COUNTER = join(ROOT, 'transport/tests/peers/clients/node_counter.mjs');
const ITEM = 'counter';
// Numbers after the last cut, which must come to each client without anything missing either.
const UPDATES_AFTER = 25;
// Enough for an hour at the rate below; and what waits during ten seconds without a connection fits the event buffers.
const NUMBERS = 180_000;
const RATE_HZ = 50;
// Between one cut and the next, or after the last: a client takes some seconds to notice and some to recover.
const PAUSE_MS_MAX = 120_000;

/**
 * Options of a server that has the counter. Its sessions wait longer than by default: a client that learns of a broken
 * WebSocket by silence only needs some seconds, and many more on a machine with much else to do.
 */
export function counterServer() {
  const directory = join(ROOT, 'target/peers-replay');
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'counter.csv');
  const lines = ['time_ms,item,n'];
  for (let n = 1; n <= NUMBERS; n++) lines.push(`${n * 10},${ITEM},${n}`);
  writeFileSync(`${file}.${process.pid}`, `${lines.join('\n')}\n`);
  renameSync(`${file}.${process.pid}`, file); // another run may be reading it
  const config = configFile('counter', '[sessions]\nsession_timeout = "2m"\nrecovery_timeout = "2m"\nrecovery_age = "2m"\n');
  return ['--config', config, '--replay', file, '--rate', String(RATE_HZ)];
}

/** What one client has reported. */
class Account {
  #last = null;
  #session = null;
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
      this.statuses.push(value);
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
  }

  /** What is wrong, if anything. */
  fault() {
    const { errors, gaps, repeated, told, sessions } = this;
    if (errors.length + gaps.length + repeated.length + told === 0 && sessions <= 1) return null;
    return { errors, gaps, repeated, told, sessions, statuses: this.statuses.slice(-12) };
  }
}

/**
 * The case: `client.start(options, report)` starts clients, one for each of `options`, `{ address, transport, item }`, which
 * tell `report(which, kind, value)`, and returns a function that ends them. They share the cuts, since each needs some time
 * for one. `client.spared` gives options of the cutter: what this client does not survive.
 */
export async function cutsCase(t, server, transport, client) {
  const count = client.count[transport] ?? client.count;
  const seed = (which) => SEED ^ [...transport, which].reduce((sum, c) => Math.imul(sum, 31) + String(c).charCodeAt(0), 7);
  const cutters = await Promise.all(Array.from({ length: count }, (_, which) => startCutter(server.address, {
    random: seeded(seed(which)),
    cutsMax: Math.ceil(CUTS / count),
    polls: transport === 'HTTP-POLLING',
    ...client.spared?.(transport),
  })));
  t.diagnostic(`BRIGHTWIRE_SEED=${SEED}`);
  const accounts = cutters.map(() => new Account());
  const began = performance.now();
  const sum = (name) => accounts.reduce((total, account) => total + account[name], 0);
  const cuts = () => cutters.reduce((total, { state }) => total + state.cuts, 0);
  const kinds = () => cutters.flatMap(({ state }) => [...Object.entries(state.kinds), ...Object.entries(state.places)])
    .reduce((all, [kind, n]) => ({ ...all, [kind]: (all[kind] ?? 0) + n }), {});
  const summary = () => `${cuts()} cuts ${JSON.stringify(kinds())}, ${count} clients, ${sum('recoveries')} recoveries, ` +
    `${sum('sessions')} sessions, ${sum('updates')} updates in ${((performance.now() - began) / 1000).toFixed(0)} s`;
  let look = () => {};
  // Every report is looked at: a fault ends the case at once, and so does a long time without progress.
  const until = (reached, progress, what) => new Promise((done, fail) => {
    let [before, since] = [progress(), performance.now()];
    const end = (settle, value) => { clearInterval(timer); look = () => {}; settle(value); };
    look = () => {
      const faults = accounts.map((account) => account.fault()).filter(Boolean);
      const now = progress();
      if (now !== before) [before, since] = [now, performance.now()];
      if (faults.length > 0) end(fail, new Error(JSON.stringify(faults)));
      else if (reached()) end(done);
      else if (performance.now() - since > PAUSE_MS_MAX) end(fail, new Error(`${what}; the clients were ${JSON.stringify(accounts.map((account) => account.statuses.slice(-6)))}`));
    };
    const timer = setInterval(() => look(), 250);
  });
  let stop;
  let sessions;
  try {
    const options = cutters.map(({ address }) => ({ address: `http://${address}`, transport, item: ITEM }));
    const starting = client.start(options, (which, kind, value) => {
      accounts[which].take(kind, value);
      if (value === `CONNECTED:${transport}`) cutters[which].reached();
      look();
    });
    stop = await bounded(Promise.resolve(starting), PAUSE_MS_MAX, 'the clients did not start');
    const cutsMax = Math.ceil(CUTS / count) * count;
    await until(() => cuts() >= cutsMax, cuts, `no cut for ${PAUSE_MS_MAX / 1000} s`);
    const seen = accounts.map((account) => account.updates);
    const after = () => accounts.filter((account, i) => account.updates >= seen[i] + UPDATES_AFTER).length;
    await until(() => after() === count, () => sum('updates'), 'no updates after the last cut');
    sessions = sum('sessions');
  } catch (error) {
    throw new Error(`${summary()}: ${error.message}`);
  } finally {
    await stop?.();
    await Promise.all(cutters.map((cutter) => cutter.close()));
  }
  t.diagnostic(summary());
  assert.equal(sessions, count, summary());
}

/**
 * Clients in a page: `open(report)` opens it. A browser sends a request again by itself if its connection breaks before
 * anything has come to it; the server takes the second for the next one, as it may well be. Generation 8 opens another
 * session if its creation fails, or its first connection behind a creation or a recovery before it has read CONOK there, or
 * a recovery's answer behind CONOK. A browser may throw away what it has read of an answer when the connection is reset or
 * ends, so of a poll all must arrive. It has a page for each client, see `nodeClients`.
 */
export function webClients(open, generation, count) {
  const clients = {
    count,
    spared: (transport) => ({ answers: false, resets: transport.startsWith('WS') }),
    async start(options, report) {
      const page = await open(report);
      for (const [which, one] of options.entries()) await page.follow(which, one);
      return () => page.close();
    },
  };
  if (generation !== 8) return clients;
  return { ...alone(clients), spared: (transport) => ({ ...clients.spared(transport), head: false }) };
}

/**
 * Node's clients. What generation 8 uses for HTTP puts the text of an error in place of an answer that breaks off, and so it
 * survives that only behind a line's end, and when the answer is longer than the error's text. Several clients of that
 * generation in one process stop each other.
 */
export function nodeClients(generation, count) {
  const clients = processClients(process.execPath, [NODE_COUNTER, String(generation)], count);
  if (generation !== 8) return clients;
  return { ...alone(clients), spared: () => ({ head: false, recoveries: false, anywhere: false }) };
}

/** The same clients, each in a process or page of its own. */
function alone(clients) {
  return {
    ...clients,
    async start(options, report) {
      const stops = await Promise.all(options.map((one, which) =>
        clients.start([one], (_which, kind, value) => report(which, kind, value))));
      return () => Promise.all(stops.map((stop) => stop()));
    },
  };
}

/** Clients in one process, which is called with transport, item and the addresses. */
export function processClients(program, args, count) {
  return {
    count,
    start(options, report) {
      const [{ transport, item }] = options;
      const child = spawn(program, [...args, transport, item, ...options.map(({ address }) => address)], { stdio: ['pipe', 'pipe', 'pipe'] });
      let log = '';
      child.stderr.on('data', (chunk) => { log = (log + chunk).slice(-4096); });
      const exited = new Promise((done) => {
        child.once('error', (error) => done(error.message));
        child.once('close', (code, signal) => done(signal ?? code));
      });
      let stopping = false;
      exited.then((code) => { if (!stopping) report(0, 'error', `the clients ended with ${code}: ${log}`); });
      readline.createInterface({ input: child.stdout }).on('line', (line) => {
        const [, which, kind, value] = /^(\d+) (\S+) (.*)$/.exec(line) ?? [];
        if (kind) report(Number(which), kind, value);
      });
      return async () => {
        stopping = true;
        child.stdin.end();
        // Its library may keep threads for a while: the case has what it needs.
        await bounded(exited, 5_000, 'late').catch(() => child.kill('SIGKILL'));
      };
    },
  };
}
