// Starts and stops the server under test: `brightwire demo` on a free port of the loopback interface.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');
export const BINARY = resolve(process.env.BRIGHTWIRE_BIN ?? join(ROOT, 'target/release/brightwire'));

// Bounds of waits, not expectations: generous, because CI machines are small and shared.
const START_MS_MAX = 20_000;
const STOP_MS_MAX = 20_000;
const LOG_BYTES_MAX = 64 * 1024;

/**
 * Starts the server and waits until it has written its ports file.
 * Returns `{ address, signal, stop }`; `stop` sends SIGTERM and fails unless the server exits with 0.
 */
export async function startServer(...options) {
  const directory = mkdtempSync(join(tmpdir(), 'brightwire-peers-'));
  const portsFile = join(directory, 'ports.toml');
  const child = spawn(BINARY, ['demo', '--port', '0', '--ports-file', portsFile, ...options], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  const keep = (chunk) => { log = (log + chunk).slice(-LOG_BYTES_MAX); };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const exited = new Promise((done) => {
    child.once('error', (error) => done(error.message));
    child.once('exit', (code, signal) => done(signal ?? code));
  });
  const clean = () => rmSync(directory, { recursive: true, force: true });

  let address;
  try {
    address = demoAddress(await portsWritten(portsFile, exited));
  } catch (error) {
    child.kill('SIGKILL');
    clean();
    throw new Error(`${BINARY} ${options.join(' ')}: ${error.message}\n${log}`);
  }
  return {
    address, // host:port
    signal: (name) => child.kill(name),
    async stop() {
      child.kill('SIGTERM');
      const code = await bounded(exited, STOP_MS_MAX, 'the server did not stop after SIGTERM')
        .catch((error) => { child.kill('SIGKILL'); throw error; })
        .finally(clean);
      if (code !== 0) throw new Error(`the server ended with ${code}, not 0:\n${log}`);
    },
  };
}

/** Writes a configuration file for `--config` and returns its path. */
export function configFile(name, text) {
  const directory = join(ROOT, 'target/peers-config');
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `${name}.toml`);
  writeFileSync(file, text);
  return file;
}

/** The text of a ports file, once it is there: it appears complete, by a rename; watching the directory tells when. */
export async function portsWritten(file, exited) {
  let watcher;
  const appeared = new Promise((done) => {
    const look = () => existsSync(file) && done();
    watcher = watch(dirname(file), look);
    look();
  });
  const ended = exited.then((code) => { throw new Error(`the server ended with ${code} before it listened`); });
  try {
    await bounded(Promise.race([appeared, ended]), START_MS_MAX, 'no ports file appeared');
  } finally {
    watcher.close();
  }
  return readFileSync(file, 'utf8');
}

function demoAddress(text) {
  // One table, one key: a TOML parser would be the larger evil.
  const match = /^\[listeners\][^[]*^demo\s*=\s*"([^"]+)"/ms.exec(text);
  if (!match) throw new Error(`no [listeners] demo in the ports file:\n${text}`);
  return match[1];
}

/** `promise`, or an error saying `what` after `ms`. */
export async function bounded(promise, ms, what) {
  let timer;
  const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error(what)), ms); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
