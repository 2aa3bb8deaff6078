// Official clients, unmodified, against the server over real sockets, on both I/O back ends.
//
//   node run.mjs
//
// Environment:
//   BRIGHTWIRE_BIN           the server (default: target/release/brightwire)
//   BRIGHTWIRE_IO            back ends to test (default: uring,epoll)
//   BRIGHTWIRE_CUTS          connections to cut for each client on each transport (default: 200)
//   BRIGHTWIRE_SEED          where they are cut (default: a random one, which is printed)
//   BRIGHTWIRE_DATA          directory with fx-ticks.csv and aapl-top-of-book.csv, optional real market data
//   BRIGHTWIRE_PEERS_PYTHON  a Python with requirements.txt installed (default: target/peers-venv/bin/python)
//   BRIGHTWIRE_PEERS_RUST    the built package rust/ (default: target/peers-rust/release/brightwire-peer-rust)
//   CI                       if set, a client that is not installed is a failure and not a skipped test

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import readline from 'node:readline';
import { after, before, describe, test } from 'node:test';

import { CASE_NAMES, runCase } from './clients/cases.mjs';
import { makeClient } from './clients/recorder.mjs';
import { optionNames, optionSkipped, runOption } from './clients/options.mjs';
import './two_level.mjs';
import './values.mjs';
import { launchBrowser, serveClientPage } from './support/browser.mjs';
import { counterServer, cutsCase, nodeClients, processClients, webClients } from './support/cuts.mjs';
import { checkDemoPage } from './support/demo_page.mjs';
import { conflatedCase, fullSpeedCase, prepareReplays } from './support/replay.mjs';
import { BINARY, ROOT, bounded, configFile, startServer } from './support/server.mjs';
import { startTap } from './support/tap.mjs';
import { checkTwoWindows, endingFeed } from './support/two_windows.mjs';

const BACK_ENDS = ['uring', 'epoll'];
const wanted = (process.env.BRIGHTWIRE_IO ?? BACK_ENDS.join(',')).split(',');
const PYTHON = process.env.BRIGHTWIRE_PEERS_PYTHON ?? join(ROOT, 'target/peers-venv/bin/python');
const PYTHON_CLIENT = join(ROOT, 'transport/tests/peers/clients/python_client.py');
const LEGACY_CLIENT = join(ROOT, 'transport/tests/peers/clients/legacy_client.py');
const RUST = process.env.BRIGHTWIRE_PEERS_RUST ?? join(ROOT, 'target/peers-rust/release/brightwire-peer-rust');
const PYTHON_COUNTER = join(ROOT, 'transport/tests/peers/clients/python_counter.py');
const PYTHON_CASES = 10;
// It sends no message while it polls.
const rustCases = (transport) => (transport === 'HTTP-POLLING' ? 7 : 8);
const FORCED = ['WS-STREAMING', 'HTTP-STREAMING', 'WS-POLLING', 'HTTP-POLLING'];
// null: the client's own choice, which must end on WebSocket.
const TRANSPORTS = [null, ...FORCED];
// The Rust client names them differently, and polls over HTTP only.
const RUST_TRANSPORTS = ['WS-STREAMING', 'HTTP-STREAMING', 'HTTP-POLLING'];
const PROCESS_MS_MAX = 300_000; // every case has a bound of its own

if (!existsSync(BINARY)) {
  console.error(`There is no server at ${BINARY}: build it (cargo build --release) or set BRIGHTWIRE_BIN.`);
  process.exit(2);
}

/** Options of a test whose client may be missing: skipped with the reason, but never in CI. */
function needs(present, what) {
  if (present) return {};
  if (!process.env.CI) return { skip: `${what} is not installed; scripts/test installs it` };
  return { missing: `${what} is not installed` };
}

/** Like `test`, but a missing client fails. */
function peer(name, requirement, run) {
  const { missing, ...options } = requirement;
  return test(name, options, missing ? () => assert.fail(missing) : run);
}

const chromium = spawnSync('which', ['chromium'], { encoding: 'utf8' }).stdout.trim();
const web = needs(chromium !== '', 'chromium');
const replays = prepareReplays();

// How many clients of a kind share the cuts of a case, so that it ends in half a minute or so: some wait for seconds
// before they notice a cut. The last two learn of a broken WebSocket by silence, and poll every five seconds.
const FOLLOWERS = { node: 4, web: { 9: 3, 8: { 'WS-STREAMING': 3, 'HTTP-STREAMING': 4, 'WS-POLLING': 2, 'HTTP-POLLING': 3 } } };
const PYTHON_FOLLOWERS = { 'WS-STREAMING': 8, 'HTTP-STREAMING': 4, 'WS-POLLING': 20, 'HTTP-POLLING': 4 };
const RUST_FOLLOWERS = { 'WS-STREAMING': 4, 'HTTP-STREAMING': 4, 'HTTP-POLLING': 20 };
// So many such cases at once: they mostly wait, but a browser has work to do.
const CUT_CASES_AT_ONCE = 8;

const how = (transport) => (transport ? `forced ${transport}` : 'its own choice of transport');

const nodeModules = {
  9: createRequire(import.meta.url)('lightstreamer-client-node'),
  8: createRequire(import.meta.url)('lightstreamer-client-node-8'),
};

for (const io of BACK_ENDS) {
  const reason = wanted.includes(io) ? false : `BRIGHTWIRE_IO is ${wanted.join(',')}`;
  // One client tries every transport on both back ends. What the others do differently is not about I/O.
  const others = io === wanted[0] ? false : `they are tried with ${wanted[0]}`;
  describe(`server with ${io}`, { skip: reason }, () => {
    let server;
    let linked;
    let browser;
    before(async () => {
      // Fast enough that three items have five updates within a second or two. Two shards, so that half of all
      // connections arrive where their sessions are not.
      server = await startServer('--io', io, '--rate', '100', '--shards', '2');
      linked = await startServer('--io', io, '--rate', '100', '--config', configFile('linked', '[sessions]\ncontrol_link = "localhost"\ndelta_delivery = false\n'));
      if (chromium) browser = await launchBrowser(chromium);
    });
    after(async () => {
      await browser?.close();
      await server?.stop(); // fails unless the server exits with 0
      await linked?.stop();
    });
    const options = (transport, generation) => ({ address: `http://${server.address}`, transport, generation });

    for (const generation of [9, 8]) {
      const ls = nodeModules[generation];
      for (const transport of TRANSPORTS) {
        describe(`Node client ${generation}, ${how(transport)}`, { skip: generation === 8 && others, concurrency: true }, () => {
          for (const name of CASE_NAMES) test(name, () => runCase(name, { ls, ...options(transport, generation) }));
          for (const name of optionNames(transport)) {
            test(name, { skip: optionSkipped(name, { generation, transport }) }, async () => {
              const tap = await startTap((name.includes('control link') ? linked : server).address);
              try {
                await runOption(name, { ls, ...options(transport, generation), address: `http://${tap.address}`, tap });
              } finally {
                await tap.close();
              }
            });
          }
        });
      }
      describe(`web client ${generation} in Chromium`, { skip: others }, () => {
        for (const transport of TRANSPORTS) {
          // One after the other: a page has six connections to a server at most, and a stream keeps one.
          describe(how(transport), () => {
            let page;
            before(async () => { if (browser) page = await serveClientPage(browser, generation); });
            after(() => page?.close());
            for (const name of CASE_NAMES) peer(name, web, () => page.run(name, options(transport, generation)));
            peer('carries cookies to another origin', web, async () => {
              const tap = await startTap(server.address);
              const address = `http://${tap.address}`;
              try {
                await page.addCookie(address);
                await page.run('receives a snapshot and live updates', { ...options(transport, generation), address, cookies: true });
                assert.match(tap.sent(), /\r\nCookie: peer=brightwire\r\n/i);
                if (!transport?.startsWith('WS')) assert.match(tap.received(), /\r\nAccess-Control-Allow-Credentials: true\r\n/i);
              } finally {
                await tap.close();
              }
            });
          });
        }
      });
    }

    describe('Node client 9, every update with all its values', { skip: others, concurrency: true }, () => {
      for (const name of ['receives a snapshot and live updates', 'subscribes in COMMAND mode']) {
        test(name, () => runCase(name, { ls: nodeModules[9], ...options(null, 9), address: `http://${linked.address}` }));
      }
    });
    test('Node clients wait while new sessions are blocked', { skip: others }, () => blockedCase(io));

    peer('Python client of the protocol before TLCP', needs(existsSync(PYTHON), 'lightstreamer-client'), (t) =>
      runProcess(t, PYTHON, [LEGACY_CLIENT, `http://${server.address}`], 6));
    const python = needs(existsSync(PYTHON), 'lightstreamer-client-lib');
    for (const transport of TRANSPORTS) {
      const forced = transport ? [transport] : [];
      peer(`Python client, ${how(transport)}`, { ...python, ...(others && { skip: others }) }, (t) =>
        runProcess(t, PYTHON, [PYTHON_CLIENT, `http://${server.address}`, ...forced], PYTHON_CASES));
    }
    const rust = needs(existsSync(RUST), 'lightstreamer-rs');
    for (const transport of RUST_TRANSPORTS) {
      peer(`Rust client, ${transport}`, { ...rust, ...(others && { skip: others }) }, (t) =>
        runProcess(t, RUST, [`http://${server.address}`, transport], rustCases(transport)));
    }
    peer('demo page in Chromium', web, () => checkDemoPage(browser, `http://${server.address}`, `page-${io}.png`));
    peer('two windows, one of them limited', { ...web, ...(others && { skip: others }) }, async () => {
      const { options: feed, prices } = endingFeed();
      const player = await startServer('--io', io, ...feed);
      try {
        await checkTwoWindows(browser, player.address, prices, 'two-windows.png');
      } finally {
        await player.stop();
      }
    });

    describe('recovery from cut connections', { concurrency: CUT_CASES_AT_ONCE }, () => {
      let counting;
      before(async () => { counting = await startServer('--io', io, '--shards', '2', ...counterServer()); });
      after(() => counting?.stop());
      const cut = (name, requirement, transport, clients) =>
        peer(`${name}, ${transport}`, requirement, (t) => cutsCase(t, counting, transport, clients));
      const other = (requirement) => ({ ...requirement, ...(others && { skip: others }) });
      // The longest first.
      for (const transport of FORCED.toReversed()) {
        cut('Python client', other(python), transport, processClients(PYTHON, [PYTHON_COUNTER], PYTHON_FOLLOWERS));
      }
      for (const transport of RUST_TRANSPORTS.toReversed()) {
        cut('Rust client', other(rust), transport, processClients(RUST, ['follow'], RUST_FOLLOWERS));
      }
      for (const transport of FORCED) {
        cut('Node client 9', {}, transport, nodeClients(9, FOLLOWERS.node));
        // In generation 8 an answer that breaks off is an error for good, unless it is long.
        if (transport !== 'HTTP-POLLING') cut('Node client 8', other({}), transport, nodeClients(8, FOLLOWERS.node));
        for (const generation of [9, 8]) {
          cut(`web client ${generation}`, other(web), transport,
            webClients((report) => serveClientPage(browser, generation, report), generation, FOLLOWERS.web[generation]));
        }
      }
    });

    for (const replay of replays) {
      test(`replay: ${replay.name}`, { skip: replay.skip ?? false }, async (t) => {
        const ls = nodeModules[9];
        const player = await startServer('--io', io, '--replay', replay.file, ...replay.options);
        try {
          const env = { ls, address: `http://${player.address}`, transport: null };
          await (replay.frequency ? conflatedCase(env, replay, t) : fullSpeedCase(env, replay, t));
        } finally {
          await player.stop();
        }
      });
    }
  });
}

/** New sessions are blocked, which clients of both generations take as a reason to try again, until they are let in. */
async function blockedCase(io) {
  const closed = await startServer('--io', io);
  try {
    closed.signal('SIGUSR1');
    const create = { method: 'POST', body: 'LS_polling=true&LS_cid=test&LS_adapter_set=DEMO' };
    const url = `http://${closed.address}/lightstreamer/create_session.txt?LS_protocol=TLCP-2.5.0`;
    for (let answer = ''; !answer.startsWith('CONERR,5,');) answer = await (await fetch(url, create)).text();
    const environment = (generation) => ({ ls: nodeModules[generation], address: `http://${closed.address}`, clients: [] });
    const waiting = [9, 8].map((generation) => makeClient(environment(generation)));
    for (const { client } of waiting) client.connect();
    await Promise.all(waiting.map((seen) => seen.events.until(() => seen.status() === 'DISCONNECTED:WILL-RETRY', 'a refusal')));
    closed.signal('SIGUSR2');
    await Promise.all(waiting.map((seen) => seen.events.until(() => seen.status() === seen.wanted, 'a session')));
    for (const seen of waiting) {
      assert.deepEqual(seen.errors, []);
      seen.client.disconnect();
    }
  } finally {
    await closed.stop();
  }
}

/**
 * Runs a client of another language. Each line "ok NAME" or "not ok NAME: reason" becomes a subtest;
 * fewer than `count` of them is a failure, so that a client that dies early cannot pass.
 */
async function runProcess(t, program, args, count) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', (chunk) => { log = (log + chunk).slice(-8192); });
  const exited = new Promise((done) => {
    child.once('error', (error) => done(error.message));
    child.once('close', (code, signal) => done(signal ?? code));
  });
  const subtests = [];
  const lines = readline.createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    const match = /^(not )?ok (.+?)(?:: (.*))?$/.exec(line);
    if (match) subtests.push(t.test(match[2], () => assert.ok(!match[1], match[3])));
  });
  let code;
  try {
    code = await bounded(exited, PROCESS_MS_MAX, `${program} did not end`);
  } finally {
    child.kill('SIGKILL');
  }
  await Promise.all(subtests);
  assert.equal(code, 0, log);
  assert.equal(subtests.length, count, `the client reported ${subtests.length} cases of ${count}\n${log}`);
}
