// Starts the server with a configuration, remote adapters as processes of their own, and official clients.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { BINARY, ROOT, bounded, portsWritten } from '../peers/support/server.mjs';

const PEERS = join(ROOT, 'transport/tests/peers');
const REMOTES = join(ROOT, 'transport/tests/adapters/remotes');
const PYTHON = process.env.BRIGHTWIRE_PEERS_PYTHON ?? join(ROOT, 'target/peers-venv/bin/python');
// The examples of the package, which `cargo test` and `cargo build --examples` build.
const EXAMPLES = process.env.BRIGHTWIRE_EXAMPLES ?? join(ROOT, 'target/debug/examples');
// A bound, not an expectation.
export const WAIT_MS_MAX = 20_000;

/** The official Node client; npm has put it beside the other peers' tests. */
export const ls = createRequire(join(PEERS, 'run.mjs'))('lightstreamer-client-node');

/** Waits for conditions on what callbacks have collected. */
export class Events {
  #waiters = new Set();

  /** Something has happened. */
  happened() {
    for (const look of this.#waiters) look();
  }

  /** Resolves when `condition()` is truthy, with its value. */
  until(condition, what) {
    let look;
    const met = new Promise((done) => {
      look = () => { const value = condition(); if (value) done(value); };
      this.#waiters.add(look);
      look();
    });
    return bounded(met, WAIT_MS_MAX, `waited in vain for: ${what}`).finally(() => this.#waiters.delete(look));
  }
}

/** A process whose standard output is kept line by line, and its log for messages of failures. */
class Process {
  lines = [];
  log = '';
  events = new Events();

  constructor(program, args, env = {}) {
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    let rest = '';
    this.child.stdout.on('data', (chunk) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop();
      this.lines.push(...parts);
      this.events.happened();
    });
    this.child.stderr.on('data', (chunk) => { this.log = (this.log + chunk).slice(-64 * 1024); this.events.happened(); });
    this.exited = new Promise((done) => {
      this.child.once('error', (error) => { this.code = error.message; done(this.code); this.events.happened(); });
      this.child.once('exit', (code, signal) => { this.code = signal ?? code; done(this.code); this.events.happened(); });
    });
  }

  /** A line of the output that begins so. */
  said(start) {
    return this.events.until(() => this.lines.find((line) => line.startsWith(start)), `"${start}"`)
      .catch((error) => { throw new Error(`${error.message}\n${this.lines.join('\n')}\n${this.log}`); });
  }

  /** Text in the log. */
  logged(text) {
    return this.events.until(() => this.log.includes(text), `"${text}" in the log`)
      .catch((error) => { throw new Error(`${error.message}\n${this.log}`); });
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}

/** Starts the server; `adapterSets` is the part of the configuration that the test is about. */
export async function startServer(adapterSets) {
  const directory = mkdtempSync(join(tmpdir(), 'brightwire-adapters-'));
  const [config, portsFile] = ['brightwire.toml', 'ports.toml'].map((name) => join(directory, name));
  writeFileSync(config, `[[listeners]]\naddress = "127.0.0.1:0"\n${adapterSets}`);
  const server = new Process(BINARY, ['run', '--config', config, '--ports-file', portsFile]);
  const text = await portsWritten(portsFile, server.exited)
    .catch((error) => { throw new Error(`${error.message}\n${server.log}`); });
  /** The address, or the port alone, of a listener or a remote adapter. */
  server.address = (name) => {
    const line = text.split('\n').map((each) => each.split(' = ')).find(([key]) => key.replaceAll('"', '') === name);
    if (!line) throw new Error(`no ${name} in the ports file:\n${text}`);
    return JSON.parse(line[1]);
  };
  server.port = (name) => server.address(name).split(':').at(-1);
  server.stop = async () => {
    server.child.kill('SIGTERM');
    const code = await bounded(server.exited, WAIT_MS_MAX, 'the server did not stop after SIGTERM')
      .catch((error) => { server.child.kill('SIGKILL'); throw error; })
      .finally(() => rmSync(directory, { recursive: true, force: true }));
    if (code !== 0) throw new Error(`the server ended with ${code}, not 0:\n${server.log}`);
  };
  return server;
}

/** The data adapters of remotes/, and which addresses of the set R's data adapter FEED their SDKs want. */
export const SDKS = {
  'Python SDK, one connection': { program: 'data.py', ports: ['R.FEED'] },
  'Node SDK, two connections': { program: 'data.cjs', ports: ['R.FEED', 'R.FEED.notify'] },
};

/** The set R with a data adapter FEED for one of them; `more` are keys of its remote, `sessions` of the sessions. */
export const remoteFeed = ({ ports }, more = '', sessions = '') => `
[sessions]
subscription_linger = "100ms"
${sessions}
[[adapter_sets]]
name = "R"
[[adapter_sets.data]]
name = "FEED"
kind = "remote"
[adapter_sets.data.remote]
address = "127.0.0.1:0"
${ports.length > 1 ? 'notify_address = "127.0.0.1:0"' : ''}
${more}`;

/** Starts a program of remotes/, or one with its whole path, with the SDK of its language. A last object is its environment. */
export function startRemote(program, ...args) {
  const env = typeof args.at(-1) === 'object' ? args.pop() : {};
  const path = resolve(REMOTES, program);
  return program.endsWith('.py')
    ? new Process(PYTHON, [path, ...args], env)
    : new Process(process.execPath, [path, ...args], { NODE_PATH: join(PEERS, 'node_modules'), ...env });
}

/** Starts an example that is a server: its arguments, then an address. */
export async function startExample(name, ...args) {
  const server = new Process(join(EXAMPLES, name), [...args, '127.0.0.1:0']);
  await server.logged('web: http://');
  server.address = () => /web: http:\/\/([^/]+)\//.exec(server.log)[1];
  return server;
}

/** Ports on which nobody listens. They are free at this moment, and others do not get them at once. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

/**
 * A directory with certificates made now: `ca.pem`, and signed by it `localhost.pem` with `localhost.key` and
 * `remote.pem` with `remote.key`; `stranger.pem` is another authority.
 */
export function certificates() {
  const directory = mkdtempSync(join(tmpdir(), 'brightwire-certificates-'));
  execFileSync(join(EXAMPLES, 'certificates'), [directory]);
  return { directory, path: (name) => join(directory, name) };
}

/** An official client, connected or refused. */
export async function connect(server, adapterSet, { user, password } = {}) {
  const events = new Events();
  const client = new ls.LightstreamerClient(`http://${server.address('web')}`, adapterSet);
  const seen = { client, events, statuses: [], errors: [], user, password };
  if (user) client.connectionDetails.setUser(user);
  if (password) client.connectionDetails.setPassword(password);
  client.addListener({
    onStatusChange: (status) => { seen.statuses.push(status); events.happened(); },
    onServerError: (code, message) => { seen.errors.push({ code, message }); events.happened(); },
  });
  client.connect();
  await events.until(() => seen.errors.length || seen.statuses.at(-1) === 'CONNECTED:WS-STREAMING', 'a session, or a refusal');
  seen.disconnect = async () => {
    client.disconnect();
    await events.until(() => seen.statuses.at(-1) === 'DISCONNECTED', 'DISCONNECTED');
  };
  return seen;
}

/** Subscribes, and collects what comes. */
export function subscribe({ client, events }, { mode = 'MERGE', items, fields, adapter, ...options }) {
  const subscription = new ls.Subscription(mode, items, fields);
  if (adapter) subscription.setDataAdapter(adapter);
  subscription.setRequestedSnapshot(mode === 'RAW' ? null : 'yes');
  for (const [name, value] of Object.entries(options)) subscription[name](value);
  const seen = { subscription, updates: [], errors: [], ended: [], cleared: [] };
  const note = (list, make) => (...args) => { list.push(make(...args)); events.happened(); };
  subscription.addListener({
    onItemUpdate: note(seen.updates, (update) => {
      const values = Object.fromEntries(fields.map((field) => [field, update.getValue(field)]));
      return { item: update.getItemName(), snapshot: update.isSnapshot(), ...values };
    }),
    onSubscriptionError: note(seen.errors, (code, message) => ({ code, message })),
    onSubscription: () => { seen.active = true; events.happened(); },
    onUnsubscription: () => { seen.active = false; events.happened(); },
    onEndOfSnapshot: note(seen.ended, (item) => item),
    onClearSnapshot: note(seen.cleared, (item) => item),
  });
  client.subscribe(subscription);
  seen.until = (condition, what) => events.until(() => condition(seen), what);
  return seen;
}
