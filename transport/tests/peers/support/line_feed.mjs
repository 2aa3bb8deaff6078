// A server with an adapter set whose items come from the line feed, and a publisher of it: the test is the data adapter.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { BINARY, bounded, portsWritten } from './server.mjs';

const WAIT_MS_MAX = 20_000; // a bound, not an expectation

const escape = (text) => text.replace(/[\\\t\n\r]/g, (c) => ({ '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' })[c]);
const line = (item, fields) => [item, ...Object.entries(fields).map(([name, value]) => (value === null ? name : `${name}=${escape(String(value))}`))].join('\t');

/** `more`: `diffs` is an order of formats, `data` more data adapters in TOML. */
export async function startLineFeed(adapterSet, { diffs = [], data = '' } = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'brightwire-lines-'));
  const socket = join(directory, 'feed');
  const ports = join(directory, 'ports.toml');
  const config = join(directory, 'lines.toml');
  writeFileSync(config, `
    [runtime]
    threading = "shared"
    io = "epoll"
    [diffs]
    order = ${JSON.stringify(diffs)}
    [[listeners]]
    name = "web"
    address = "127.0.0.1:0"
    [[adapter_sets]]
    name = "${adapterSet}"
    [[adapter_sets.data]]
    name = "DEFAULT"
    kind = "lines"
    address = "unix:${socket}"
    ${data}
  `);
  const child = spawn(BINARY, ['run', '--config', config, '--ports-file', ports], { stdio: ['ignore', 'ignore', 'ignore'] });
  const exited = once(child, 'exit').then(([code]) => code);
  const [, address] = /^web\s*=\s*"([^"]+)"/m.exec(await portsWritten(ports, exited));
  const publisher = createConnection(socket);
  await once(publisher, 'connect');
  return {
    address,
    /** An event: fields by name, null for null. */
    publish: (item, fields) => publisher.write(`${line(item, fields)}\n`),
    /** Many, `[item, fields]` each, in one write. */
    publishAll: (events) => publisher.write(events.map((event) => `${line(...event)}\n`).join('')),
    async stop() {
      publisher.destroy();
      child.kill('SIGTERM');
      await bounded(exited, WAIT_MS_MAX, 'the server did not stop').catch(() => child.kill('SIGKILL'));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
