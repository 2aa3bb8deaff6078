// What a client's options make it do, seen on the wire by a tap (support/tap.mjs). The environment is that of a case
// (recorder.mjs) and `tap`.

import { check, connect, disconnect, makeClient, sessionOf, subscribe, withClients } from './recorder.mjs';

/** Waits for something on the wire, which no listener tells of. */
async function onWire(seen, condition, what) {
  const timer = setInterval(seen.events.on(() => {}), 50);
  try {
    await seen.events.until(condition, what);
  } finally {
    clearInterval(timer);
  }
}

const count = (text, pattern) => text.split(pattern).length - 1;

// Polls promise neither heartbeats nor probes, and know no SYNC.
const STREAMING = ['WS-STREAMING', 'HTTP-STREAMING'];
// A client whose first connection is its stream needs no other one.
const OTHER_CONNECTIONS = ['HTTP-STREAMING', 'WS-POLLING', 'HTTP-POLLING'];

/** On which transports an option shows. */
const SHOWS_ON = {
  'sends heartbeats in reverse': STREAMING,
  'is kept alive as often as it asks for': STREAMING,
  'compares its clock with the server to find itself slow': STREAMING,
  'sends extra headers with its requests': ['WS-STREAMING', ...OTHER_CONNECTIONS],
  'follows the control link': OTHER_CONNECTIONS,
  'ignores the control link if told to': OTHER_CONNECTIONS,
};

const OPTIONS = {
  async 'sends heartbeats in reverse'(env) {
    const seen = makeClient(env);
    seen.client.connectionOptions.setReverseHeartbeatInterval(300);
    await connect(seen);
    const session = sessionOf(seen);
    await onWire(seen, () => count(env.tap.sent(), /heartbeat(?:\.txt)?[?\r\n]/) >= 3, 'three heartbeats');
    check(/LS_inactivity_millis=\d/.test(env.tap.sent()), 'the client did not promise its heartbeats');
    const list = subscribe(env, seen);
    await seen.events.until(() => list.updates.length >= 3, 'updates between heartbeats');
    check(sessionOf(seen) === session && seen.errors.length === 0, `session ${session} became ${sessionOf(seen)}, errors ${JSON.stringify(seen.errors)}`);
    await disconnect(seen);
  },

  async 'is kept alive as often as it asks for'(env) {
    const seen = makeClient(env);
    seen.client.connectionOptions.setKeepaliveInterval(1000);
    await connect(seen);
    await seen.events.until(() => Number(seen.client.connectionOptions.getKeepaliveInterval()) === 1000, 'an interval of 1,000 ms');
    await onWire(seen, () => count(env.tap.received(), 'PROBE\r\n') >= 2, 'two PROBEs');
    check(seen.status() === seen.wanted, `the client is ${seen.status()}`);
    await disconnect(seen);
  },

  async 'compares its clock with the server to find itself slow'(env) {
    const seen = makeClient(env);
    seen.client.connectionOptions.setSlowingEnabled(true);
    const list = subscribe(env, seen);
    await connect(seen);
    await onWire(seen, () => /SYNC,\d+\r\n/.test(env.tap.received()), 'SYNC');
    const updates = list.updates.length;
    await seen.events.until(() => list.updates.length > updates, 'updates after SYNC');
    check(!env.tap.sent().includes('LS_send_sync=false'), 'the client asked for no SYNC');
    check(seen.status() === seen.wanted, `the client is ${seen.status()}`);
    await disconnect(seen);
  },

  async 'sends extra headers with its requests'(env) {
    const seen = makeClient(env);
    seen.client.connectionOptions.setHttpExtraHeaders({ 'X-Peer': 'brightwire' });
    await connect(seen);
    const list = subscribe(env, seen);
    await seen.events.until(() => list.updates.length > 0, 'updates');
    check(/\r\nX-Peer: *brightwire\r\n/i.test(env.tap.sent()), 'the header is not on the wire');
    await disconnect(seen);
  },

  async 'follows the control link'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const list = subscribe(env, seen);
    await seen.events.until(() => list.updates.length > 0, 'updates');
    // The server calls itself localhost, the client was given an address.
    check(new RegExp(`\\r\\nHost: *localhost:${env.tap.port}\\r\\n`, 'i').test(env.tap.sent()), 'no request went to the control link');
    check(seen.client.connectionDetails.getServerInstanceAddress().includes('localhost'), 'the client does not know the control link');
    await disconnect(seen);
  },

  async 'ignores the control link if told to'(env) {
    const seen = makeClient(env);
    seen.client.connectionOptions.setServerInstanceAddressIgnored(true);
    await connect(seen);
    const list = subscribe(env, seen);
    await seen.events.until(() => list.updates.length > 0, 'updates');
    check(!/Host: *localhost/i.test(env.tap.sent()), 'a request went to the control link');
    await disconnect(seen);
  },
};

/** The options that show on a transport. */
export function optionNames(transport) {
  return Object.keys(OPTIONS).filter((name) => SHOWS_ON[name].includes(transport));
}

/** Why a client cannot do it, if so. */
export function optionSkipped(name, { generation, transport }) {
  if (name === 'sends extra headers with its requests' && generation === 8 && transport.startsWith('WS')) {
    return 'generation 8 gives up WebSocket when there are extra headers';
  }
  return false;
}

export function runOption(name, env) {
  return withClients(env, OPTIONS[name]);
}
