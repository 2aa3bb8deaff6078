// Nasty values through the whole server to the official Node client: in full, as JSON Patch and as TLCP-diff.
//
//   node values.mjs          (also part of run.mjs; same environment)
//
// A publisher writes each value to the line feed and goes on when the client has it. What the client reports must be
// the value, or, where it went out as JSON Patch, the same document: the client keeps documents parsed and writes them
// in its own spelling. A second connection without a client library sees the lines themselves, so that the test knows
// that differences were really sent.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { BINARY, bounded } from './support/server.mjs';

const WAIT_MS_MAX = 20_000; // a bound, not an expectation

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

const escape = (text) => text.replace(/[\\\t\n\r]/g, (c) => ({ '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' })[c]);

async function startFeed(order) {
  const directory = mkdtempSync(join(tmpdir(), 'brightwire-values-'));
  const socket = join(directory, 'feed');
  const ports = join(directory, 'ports.toml');
  const config = join(directory, 'values.toml');
  writeFileSync(config, `
    [runtime]
    threading = "shared"
    io = "epoll"
    [diffs]
    order = ${JSON.stringify(order)}
    [[listeners]]
    name = "web"
    address = "127.0.0.1:0"
    [[adapter_sets]]
    name = "VALUES"
    [[adapter_sets.data]]
    name = "DEFAULT"
    kind = "lines"
    address = "unix:${socket}"
  `);
  const child = spawn(BINARY, ['run', '--config', config, '--ports-file', ports], { stdio: ['ignore', 'ignore', 'ignore'] });
  const exited = once(child, 'exit');
  let watcher;
  const appeared = new Promise((done) => {
    const look = () => existsSync(ports) && done();
    watcher = watch(directory, look);
    look();
  });
  const early = exited.then(([code]) => { throw new Error(`the server ended with ${code} before it listened`); });
  await bounded(Promise.race([appeared, early]), WAIT_MS_MAX, 'no ports file appeared').finally(() => watcher.close());
  early.catch(() => {});
  const [, address] = /^web\s*=\s*"([^"]+)"/m.exec(readFileSync(ports, 'utf8'));
  const publisher = createConnection(socket);
  await once(publisher, 'connect');
  return {
    address,
    publish: (n, value) => publisher.write(`values\tn=${n}\tv${value === null ? '' : `=${escape(value)}`}\n`),
    async stop() {
      publisher.destroy();
      child.kill('SIGTERM');
      await bounded(exited, WAIT_MS_MAX, 'the server did not stop').catch(() => child.kill('SIGKILL'));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** The official client. `next()` waits for the next update. */
function officialClient(address) {
  const ls = createRequire(import.meta.url)('lightstreamer-client-node');
  const client = new ls.LightstreamerClient(`http://${address}`, 'VALUES');
  const subscription = new ls.Subscription('MERGE', ['values'], ['n', 'v']);
  subscription.setRequestedSnapshot('yes');
  const seen = new Map();
  let wake = () => {};
  subscription.addListener({
    onSubscription: () => { seen.set('subscribed', true); wake(); },
    onItemUpdate: (update) => { seen.set(Number(update.getValue('n')), update.getValue('v')); wake(); },
  });
  client.addListener({ onServerError: (code, text) => { seen.set('error', `${code} ${text}`); wake(); } });
  client.subscribe(subscription);
  client.connect();
  const until = (key) => bounded(new Promise((done, fail) => {
    wake = () => {
      if (seen.has('error')) fail(new Error(seen.get('error')));
      else if (seen.has(key)) done(seen.get(key));
    };
    wake();
  }), WAIT_MS_MAX, `the client has not seen ${key}`);
  return { until, stop: () => client.disconnect() };
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

describe('nasty values to the Node client', () => {
  for (const order of [[], ['json_patch'], ['text'], ['json_patch', 'text'], ['text', 'json_patch']]) {
    test(order.length ? `as ${order.join(', then ')}` : 'in full', async () => {
      const feed = await startFeed(order);
      let client;
      let bare;
      try {
        bare = await bareClient(feed.address);
        client = officialClient(feed.address);
        await client.until('subscribed');
        for (const [n, value] of VALUES.entries()) {
          feed.publish(n, value);
          const what = `value ${n}: ${JSON.stringify(value)?.slice(0, 80)}`;
          check(await client.until(n), value, what, order.includes('json_patch'));
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
