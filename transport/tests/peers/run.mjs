// Official clients, unmodified, against the server over real sockets, on both I/O back ends.
//
//   node run.mjs
//
// Environment:
//   BRIGHTWIRE_BIN           the server (default: target/release/brightwire)
//   BRIGHTWIRE_IO            back ends to test (default: uring,epoll)
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
import './values.mjs';
import { launchBrowser, serveClientPage } from './support/browser.mjs';
import { checkDemoPage } from './support/demo_page.mjs';
import { conflatedCase, fullSpeedCase, prepareReplays } from './support/replay.mjs';
import { BINARY, ROOT, bounded, startServer } from './support/server.mjs';

const BACK_ENDS = ['uring', 'epoll'];
const wanted = (process.env.BRIGHTWIRE_IO ?? BACK_ENDS.join(',')).split(',');
const PYTHON = process.env.BRIGHTWIRE_PEERS_PYTHON ?? join(ROOT, 'target/peers-venv/bin/python');
const PYTHON_CLIENT = join(ROOT, 'transport/tests/peers/clients/python_client.py');
const LEGACY_CLIENT = join(ROOT, 'transport/tests/peers/clients/legacy_client.py');
const RUST = process.env.BRIGHTWIRE_PEERS_RUST ?? join(ROOT, 'target/peers-rust/release/brightwire-peer-rust');
// null: the client's own choice, which must end on WebSocket too.
const TRANSPORTS = [null, 'WS-STREAMING'];
const PROCESS_MS_MAX = 200_000; // eight cases, each with a bound of its own

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

for (const io of BACK_ENDS) {
  const reason = wanted.includes(io) ? false : `BRIGHTWIRE_IO is ${wanted.join(',')}`;
  describe(`server with ${io}`, { skip: reason }, () => {
    let server;
    let browser;
    before(async () => {
      // Fast enough that three items have five updates within a second or two.
      server = await startServer('--io', io, '--rate', '100');
      if (chromium) browser = await launchBrowser(chromium);
    });
    after(async () => {
      await browser?.close();
      await server?.stop(); // fails unless the server exits with 0
    });

    for (const transport of TRANSPORTS) {
      const how = transport ? `forced ${transport}` : 'its own choice of transport';
      const options = () => ({ address: `http://${server.address}`, transport });

      describe(`Node client, ${how}`, () => {
        const ls = createRequire(import.meta.url)('lightstreamer-client-node');
        for (const name of CASE_NAMES) test(name, () => runCase(name, { ls, ...options() }));
      });

      describe(`web client in Chromium, ${how}`, () => {
        let page;
        before(async () => { if (browser) page = await serveClientPage(browser); });
        after(() => page?.close());
        for (const name of CASE_NAMES) peer(name, web, () => page.run(name, options()));
      });

      peer(`Python client, ${how}`, needs(existsSync(PYTHON), 'lightstreamer-client-lib'), (t) =>
        runProcess(t, PYTHON, [PYTHON_CLIENT, options().address, ...(transport ? [transport] : [])], 8));
    }

    peer('Python client of the protocol before TLCP', needs(existsSync(PYTHON), 'lightstreamer-client'), (t) =>
      runProcess(t, PYTHON, [LEGACY_CLIENT, `http://${server.address}`], 6));
    peer('Rust client', needs(existsSync(RUST), 'lightstreamer-rs'), (t) => runProcess(t, RUST, [`http://${server.address}`], 7));
    peer('demo page in Chromium', web, () => checkDemoPage(browser, `http://${server.address}`, `page-${io}.png`));

    for (const replay of replays) {
      test(`replay: ${replay.name}`, { skip: replay.skip ?? false }, async (t) => {
        const ls = createRequire(import.meta.url)('lightstreamer-client-node');
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
