// Nasty values through the whole server to the decoders of official clients: in full, as JSON Patch and as TLCP-diff.
//
//   node values.mjs          (also part of run.mjs; same environment)
//
// A publisher writes each value to the line feed and goes on when the client has it. What the client reports must be
// the value, or, where it went out as JSON Patch, the same document: the client keeps documents parsed and writes them
// in its own spelling. A second connection without a client library sees the lines themselves, so that the test knows
// that differences were really sent.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import readline from 'node:readline';
import { describe, test } from 'node:test';

import { startLineFeed } from './support/line_feed.mjs';
import { ROOT, bounded } from './support/server.mjs';

const WAIT_MS_MAX = 20_000; // a bound, not an expectation
const PYTHON = process.env.BRIGHTWIRE_PEERS_PYTHON ?? join(ROOT, 'target/peers-venv/bin/python');
const PYTHON_CLIENT = join(ROOT, 'transport/tests/peers/clients/python_values.py');

const long = (seed) => Array.from({ length: 20_000 }, (_, i) => (i * seed) % 9973).join(',');
const rows = (price) => Array.from({ length: 50 }, (_, i) => ({ name: `row ${i} | é`, price: i === 7 ? price : i, tags: ['a/b', 'm~n'] }));

/** One after another; neighbours that are alike make differences. */
const VALUES = [
  'plain', '', null, '', 'x', null,
  '#', '$', '^', '|', '%', '^P[]', '^Td', '^3', '#null', '$$', '%23', '%', '100%25|',
  'a|b|c', 'line\r\nend', '\r', '\n', 'tab\tend', ' blanks ', '\u0000\u001f\u007f', ',;&=+',
  'größe', 'e\u0301 combined', '日本語', '😀', '👩‍👩‍👧 family', '\ud83d\ude00\ud83d\ude01'.repeat(20), '\u{10ffff}',
  'a long enough text without anything special in it', 'a long enough text with something special in it',
  'a long enough text with something | % ^ # $ special in it', '^a long enough text with something | % ^ # $ in it',
  'a long enough text with größe and\nlines\nin it, so that an edit pays', 'a long enough text with größte and\nlines in it, so that an edit pays',
  'a long enough text with größte and\r\nlines in it, so that an edit pays', 'a long enough text with größte 😀\r\nlines in it, so that an edit pays',
  JSON.stringify(rows(1)), JSON.stringify(rows(2.5)), JSON.stringify(rows('|%\r\n^')), JSON.stringify(rows('😀')),
  JSON.stringify({ rows: rows(1), '': { '~/': [1, 2, 3] } }), JSON.stringify({ rows: rows(1), '': { '~/': [1, 3] } }),
  JSON.stringify({ rows: rows(1), '': { '~/': [1, 3, null, true, 'x'], 1: {} } }), JSON.stringify({ rows: rows(1) }),
  JSON.stringify(rows(1)), JSON.stringify(rows(1), null, 1), `${JSON.stringify(rows(1)).slice(0, -1)}`, JSON.stringify(rows(3)),
  `{"price":1.10,"text":"${'x'.repeat(80)}"}`, `{"price":1.20,"text":"${'x'.repeat(80)}"}`,
  `{"__proto__":{"a":1},"text":"${'x'.repeat(80)}"}`, `{"__proto__":{"a":2},"text":"${'x'.repeat(80)}"}`,
  long(7), `${long(7)}.`, `<${long(7)}|>`, long(11), null, `${'y'.repeat(100_000)}`, `${'y'.repeat(100_000)}z`, 'end',
];

/** What a client has seen: values by their numbers, and other things by name. `until` waits for one of them. */
class Seen {
  #seen = new Map();
  #wake = () => {};

  set(key, value) {
    this.#seen.set(key, value);
    this.#wake();
  }

  until(key) {
    return bounded(new Promise((done, fail) => {
      this.#wake = () => {
        if (this.#seen.has('error')) fail(new Error(this.#seen.get('error')));
        else if (this.#seen.has(key)) done(this.#seen.get(key));
      };
      this.#wake();
    }), WAIT_MS_MAX, `the client has not seen ${key}`);
  }
}

function nodeClient(module, address) {
  const ls = createRequire(import.meta.url)(module);
  const client = new ls.LightstreamerClient(`http://${address}`, 'VALUES');
  const subscription = new ls.Subscription('MERGE', ['values'], ['n', 'v']);
  subscription.setRequestedSnapshot('yes');
  const seen = new Seen();
  subscription.addListener({
    onSubscription: () => seen.set('subscribed', true),
    onItemUpdate: (update) => seen.set(Number(update.getValue('n')), update.getValue('v')),
  });
  client.addListener({ onServerError: (code, text) => seen.set('error', `${code} ${text}`) });
  client.subscribe(subscription);
  client.connect();
  return { until: (key) => seen.until(key), stop: () => client.disconnect() };
}

function pythonClient(address) {
  const child = spawn(PYTHON, [PYTHON_CLIENT, `http://${address}`], { stdio: ['pipe', 'pipe', 'inherit'] });
  const seen = new Seen();
  const ended = (what) => seen.set('error', `the client ended: ${what}`);
  child.once('error', (error) => ended(error.message));
  child.once('exit', ended);
  readline.createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.startsWith('[')) seen.set(...JSON.parse(line));
    else if (line.startsWith('error ')) seen.set('error', line);
    else seen.set(line, true);
  });
  return { until: (key) => seen.until(key), stop: () => child.kill('SIGKILL') };
}

/** A session over HTTP without a library, which only keeps the `U` lines it sees. */
async function bareClient(address) {
  const url = `http://${address}/lightstreamer`;
  const abort = new AbortController();
  const post = (name, body) => fetch(`${url}/${name}.txt?LS_protocol=TLCP-2.5.0`, { method: 'POST', body, signal: abort.signal });
  const stream = await post('create_session', 'LS_adapter_set=VALUES&LS_cid=values&LS_send_sync=false&LS_content_length=100000000');
  const lines = [];
  let rest = '';
  let subscribed;
  const opened = new Promise((done) => { subscribed = done; });
  const read = async () => {
    for await (const chunk of stream.body.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + chunk).split('\r\n');
      rest = parts.pop();
      for (const line of parts) {
        if (line.startsWith('CONOK,')) {
          const add = 'LS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=values&LS_schema=n%20v&LS_snapshot=true';
          await (await post('control', `LS_session=${line.split(',')[1]}&${add}`)).text();
        }
        if (line.startsWith('SUBOK,')) subscribed();
        if (line.startsWith('U,')) lines.push(line);
      }
    }
  };
  read().catch(() => {}); // it ends by being aborted
  await bounded(opened, WAIT_MS_MAX, 'no SUBOK');
  return { lines, stop: () => abort.abort() };
}

function check(got, value, what, patched) {
  if (patched && typeof got === 'string' && got !== value) {
    assert.deepEqual(JSON.parse(got), JSON.parse(value), what);
  } else {
    assert.equal(got, value, what);
  }
}

const python = !existsSync(PYTHON) && !process.env.CI && 'lightstreamer-client-lib is not installed; scripts/test installs it';
const ALL = [[], ['json_patch'], ['text'], ['json_patch', 'text'], ['text', 'json_patch']];
const CLIENTS = [
  { name: 'the Node client', start: (address) => nodeClient('lightstreamer-client-node', address), orders: ALL },
  // Of a version of the protocol before differences: it must never get one.
  { name: 'the Node client of generation 8', start: (address) => nodeClient('lightstreamer-client-node-8', address), orders: ALL, plain: true },
  { name: 'the Python client', start: pythonClient, orders: ALL, skip: python },
];

for (const { name, start, orders, plain, skip } of CLIENTS) {
  describe(`nasty values to ${name}`, { skip: skip || false }, () => {
    for (const order of orders) {
      test(order.length ? `as ${order.join(', then ')}` : 'in full', async () => {
        const feed = await startLineFeed('VALUES', { diffs: order });
        let client;
        let bare;
        try {
          bare = await bareClient(feed.address);
          client = start(feed.address);
          await client.until('subscribed');
          for (const [n, value] of VALUES.entries()) {
            feed.publish('values', { n, v: value });
            const what = `value ${n}: ${JSON.stringify(value)?.slice(0, 80)}`;
            check(await client.until(n), value, what, order.includes('json_patch') && !plain);
          }
          const sent = bare.lines.join('\n');
          assert.equal(/\|\^P\[\{/.test(sent), order.includes('json_patch'), 'JSON patches on the wire');
          assert.equal(/\|\^T[A-Z]*[a-z]/.test(sent), order.includes('text'), 'text differences on the wire');
        } finally {
          client?.stop();
          bare?.stop();
          await feed.stop();
        }
      });
    }
  });
}
