// Unit tests of the demo page's own client module, `transport/assets/tlcp.js`: decoding, and the
// session's life against a scripted socket and a clock that only moves when told to.
// Run: node --test transport/tests/peers/page/

import assert from 'node:assert/strict';
import test from 'node:test';

import {
  ProtocolError, TlcpClient, decodeFields, decodeText, encodeRequest, parseLine, retryDelayMs,
} from '../../../assets/tlcp.js';

// ---- decoding ----

test('the first update gives every field; null, empty and escaped values are told apart', () => {
  const { values, changed } = decodeFields('Anduct|3.04|#|$|A%7CB|%23 late|%24|%5E4|a,b', null, 9);
  assert.deepEqual(values, ['Anduct', '3.04', null, '', 'A|B', '# late', '$', '^4', 'a,b']);
  assert.ok(changed.every(Boolean));
});

test('empty tokens and runs keep the previous values', () => {
  const first = ['a', 'b', null, '', 'e', 'f'];
  assert.deepEqual(decodeFields('|B|^4', first, 6).values, ['a', 'B', null, '', 'e', 'f']);
  assert.deepEqual(decodeFields('|B|^4', first, 6).changed, [false, true, false, false, false, false]);
  assert.deepEqual(decodeFields('^6', first, 6).values, first);
  assert.deepEqual(decodeFields('^4|#|$', first, 6).values, ['a', 'b', null, '', null, '']);
  assert.deepEqual(decodeFields('|||||', first, 6).values, first);
  assert.deepEqual(decodeFields('', ['x'], 1), { values: ['x'], changed: [false] });
});

test('a value sent again in full does not count as changed', () => {
  assert.deepEqual(decodeFields('a|c', ['a', 'b'], 2).changed, [false, true]);
});

test('non-ASCII text passes raw and escaped', () => {
  assert.deepEqual(decodeFields('日本|%F0%9F%98%80|e\u0301', null, 3).values, ['日本', '😀', 'e\u0301']);
});

test('lists that break the protocol are refused', () => {
  const previous = ['a', 'b', 'c', 'd'];
  for (const bad of ['a', 'a|b|c', 'a|b|c|d|e', '^5', '^3', '^4|', '^0|a|b|c|d', '|^4', '^P[]|||', '^Tgf|||', '^|||', '%|||', '%GG|||']) {
    assert.throws(() => decodeFields(bad, previous, 4), ProtocolError, bad);
  }
  assert.throws(() => decodeFields('a|', null, 2), ProtocolError);
  assert.throws(() => decodeFields('^2', null, 2), ProtocolError);
  assert.throws(() => decodeFields(`^${'9'.repeat(400)}`, previous, 4), ProtocolError);
});

test('lines are split at commas and their arguments decoded, the list of an update excepted', () => {
  assert.deepEqual(parseLine('CONERR,2,Requested%2C not available'), ['CONERR', '2', 'Requested, not available']);
  assert.deepEqual(parseLine('U,3,12,a,b|c%7Cd'), ['U', '3', '12', 'a,b|c%7Cd']);
  assert.deepEqual(parseLine('U,1,1,'), ['U', '1', '1', '']);
  assert.deepEqual(parseLine('PROBE'), ['PROBE']);
  assert.throws(() => parseLine('U,1,1'), ProtocolError);
  assert.throws(() => parseLine('U,1'), ProtocolError);
  assert.throws(() => decodeText('100%'), ProtocolError);
});

test('requests are escaped and leave out what is not given', () => {
  assert.equal(
    encodeRequest('control', { LS_reqId: 1, LS_group: 'EUR/USD a&b', LS_x: undefined, LS_empty: '' }),
    'control\r\nLS_reqId=1&LS_group=EUR%2FUSD%20a%26b&LS_empty=',
  );
});

test('retries wait longer and longer, within bounds', () => {
  assert.equal(retryDelayMs(1, 0.5), 500);
  assert.equal(retryDelayMs(2, 0.5), 1000);
  assert.equal(retryDelayMs(1000, 0.5), 30000);
  assert.ok(retryDelayMs(1, 0) >= 375 && retryDelayMs(1, 0.999) <= 625);
});

// ---- a session against a scripted server ----

/** A clock whose time moves in `advance` only; at most one timer runs at a time in the client. */
class TestClock {
  #now = 1_000_000;
  #timers = new Map();
  #next = 1;

  now = () => this.#now;
  random = () => 0.5;
  setTimeout = (run, delayMs) => {
    this.#timers.set(this.#next, { run, atMs: this.#now + delayMs });
    return this.#next++;
  };
  clearTimeout = (id) => this.#timers.delete(id);

  get timers() {
    return this.#timers.size;
  }

  advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, t]) => t.atMs <= end).sort((a, b) => a[1].atMs - b[1].atMs)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].atMs);
      due[1].run();
    }
    this.#now = end;
  }
}

/** A client with the list of its sockets, statuses and events; the test plays the server. */
function harness(options = {}) {
  const clock = new TestClock();
  const sockets = [];
  const states = [];
  class TestSocket {
    sent = [];
    closed = false;
    constructor(url, protocol) {
      Object.assign(this, { url, protocol });
      sockets.push(this);
    }
    send(text) { this.sent.push(text); }
    close() { this.closed = true; }
    // The server's side:
    say(...lines) { this.onmessage({ data: lines.map((line) => `${line}\r\n`).join('') }); }
  }
  const client = new TlcpClient({
    url: 'ws://server/lightstreamer', adapterSet: 'DEMO', WebSocket: TestSocket, clock,
    onStatus: (status) => states.push(status.state),
    ...options,
  });
  const socket = () => sockets.at(-1);
  const events = [];
  const subscribe = (extra = {}) => client.subscribe({
    adapter: 'QUOTE_ADAPTER', items: ['item1', 'item2'], fields: ['bid', 'ask'],
    onUpdate: (update) => events.push(update),
    onConf: (conf) => events.push(conf),
    onError: (error) => events.push(error),
    ...extra,
  });
  const open = (session = 'S1') => {
    socket().onopen();
    socket().say('WSOK', `CONOK,${session},50000,5000,*`, 'SERVNAME,x', 'CLIENTIP,127.0.0.1', 'CONS,unlimited');
  };
  return { client, clock, sockets, socket, states, events, subscribe, open };
}

test('a session is created, an item subscribed, updates decoded, the frequency changed', () => {
  const { client, socket, events, subscribe, open } = harness();
  const subscription = subscribe({ frequency: 5 });
  client.connect();
  assert.equal(socket().protocol, 'TLCP-2.5.0.lightstreamer.com');
  open();
  assert.equal(socket().sent[0], 'wsok');
  assert.match(socket().sent[1], /^create_session\r\nLS_adapter_set=DEMO&LS_cid=.*&LS_supported_diffs=&LS_send_sync=false$/);
  assert.match(socket().sent[2], /^control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=item1%20item2&LS_schema=bid%20ask&LS_data_adapter=QUOTE_ADAPTER&LS_snapshot=true&LS_requested_max_frequency=5$/);
  assert.equal(client.status.state, 'streaming');

  socket().say('REQOK,1', 'SUBOK,1,2,2', 'CONF,1,5.0,filtered', 'U,1,2,1.1|1.2', 'U,1,2,|1.3');
  assert.deepEqual(events, [
    { frequency: '5.0', filtered: true },
    { item: 1, name: 'item2', values: ['1.1', '1.2'], changed: [true, true], snapshot: true },
    { item: 1, name: 'item2', values: ['1.1', '1.3'], changed: [false, true], snapshot: false },
  ]);

  client.setFrequency(subscription, 'unlimited');
  assert.equal(socket().sent[3], 'control\r\nLS_reqId=2&LS_op=reconf&LS_subId=1&LS_requested_max_frequency=unlimited');
  socket().say('REQOK,2', 'CONF,1,unlimited,filtered');
  assert.deepEqual(events.at(-1), { frequency: 'unlimited', filtered: true });
});

test('a bandwidth is asked for by each creation, and changed while there is a session', () => {
  const granted = [];
  const { client, clock, socket, open } = harness({ bandwidth: 5, onBandwidth: ({ bandwidth }) => granted.push(bandwidth) });
  client.connect();
  open('S1');
  assert.match(socket().sent[1], /&LS_requested_max_bandwidth=5$/);
  socket().say('CONS,5.0');
  client.setBandwidth(10);
  assert.equal(socket().sent[2], 'control\r\nLS_reqId=1&LS_op=constrain&LS_requested_max_bandwidth=10');
  socket().say('REQOK,1', 'CONS,10.0');
  socket().onclose();
  client.setBandwidth('unlimited'); // without a session there is nobody to be told
  clock.advance(500);
  open('S2');
  assert.doesNotMatch(socket().sent[1], /bandwidth/);
  assert.deepEqual(granted, ['unlimited', '5.0', '10.0', 'unlimited']);
});

test('silence is noticed: stalled after keep-alive + 2 s, reconnecting after 3 s more', () => {
  const { client, clock, sockets, states, open } = harness();
  client.connect();
  open();
  clock.advance(6999);
  assert.equal(client.status.state, 'streaming');
  sockets[0].say('PROBE');
  clock.advance(6999);
  assert.equal(client.status.state, 'streaming');
  clock.advance(1);
  assert.equal(client.status.state, 'stalled');
  sockets[0].say('PROBE');
  assert.equal(client.status.state, 'streaming');
  clock.advance(7000);
  assert.equal(client.status.state, 'stalled');
  clock.advance(3000);
  assert.equal(client.status.state, 'reconnecting');
  assert.ok(sockets[0].closed);
  assert.equal(client.status.retryAtMs, clock.now() + 500);
  clock.advance(500);
  open('S2');
  assert.equal(client.status.reason, null);
  states.splice(6);
  assert.deepEqual(states, ['connecting', 'streaming', 'stalled', 'streaming', 'stalled', 'reconnecting']);
});

test('a new session names the lost one, subscribes again and takes the first update as snapshot', () => {
  const { client, clock, sockets, socket, events, subscribe, open } = harness();
  subscribe();
  client.connect();
  open('S1');
  socket().say('SUBOK,1,2,2', 'U,1,1,1|2');
  socket().onclose();
  clock.advance(500);
  assert.equal(sockets.length, 2);
  open('S2');
  assert.match(socket().sent[1], /LS_old_session=S1/);
  assert.match(socket().sent[2], /LS_op=add&LS_subId=1&/);
  socket().say('SUBOK,1,2,2', 'U,1,1,3|4');
  assert.deepEqual(events.at(-1), { item: 0, name: 'item1', values: ['3', '4'], changed: [true, true], snapshot: true });
  // What the first socket still says is of no interest.
  const count = events.length;
  sockets[0].say('U,1,1,5|6');
  sockets[0].onclose();
  assert.equal(events.length, count);
  assert.equal(client.status.state, 'streaming');
});

test('an unanswered connection is given up and tried again, later and later', () => {
  const { client, clock, sockets } = harness();
  client.connect();
  clock.advance(4000);
  assert.equal(client.status.state, 'reconnecting');
  clock.advance(500);
  assert.equal(sockets.length, 2);
  assert.deepEqual([client.status.state, client.status.reason], ['connecting', 'the server did not answer in time']);
  sockets[1].onclose();
  clock.advance(999);
  assert.equal(sockets.length, 2);
  client.connect(); // the user does not want to wait
  assert.equal(sockets.length, 3);
});

test('LOOP binds the session again on the same socket and keeps the values', () => {
  const { client, socket, sockets, events, subscribe, open } = harness();
  subscribe();
  client.connect();
  open('S1');
  socket().say('SUBOK,1,2,2', 'U,1,1,1|2', 'LOOP,0');
  assert.equal(socket().sent.at(-1), 'bind_session\r\nLS_session=S1&LS_send_sync=false');
  socket().say('CONOK,S1,50000,5000,*', 'U,1,1,|3');
  assert.deepEqual(events.at(-1).values, ['1', '3']);
  assert.equal(socket().sent.filter((request) => request.includes('LS_op=add')).length, 1);
  assert.equal(sockets.length, 1);
});

test('refusals: final ones close with their reason, the others are tried again', () => {
  for (const [line, state] of [
    ['CONERR,2,Requested Adapter Set not available', 'closed'],
    ['CONERR,6,later', 'reconnecting'],
    ['CONERR,20,Session not found', 'reconnecting'],
    ['END,31,Destroy invoked by client', 'closed'],
    ['END,48,Maximum session duration reached', 'reconnecting'],
    ['ERROR,67,Malformed request', 'closed'],
    ['REQERR,7,20,Session not found', 'reconnecting'],
  ]) {
    const { client, socket, clock } = harness();
    client.connect();
    socket().onopen();
    socket().say(line);
    assert.equal(client.status.state, state, line);
    assert.match(client.status.reason, new RegExp(`code ${/\d+,(?=[^\d])/.exec(line)[0].slice(0, -1)}`));
    assert.equal(clock.timers, state === 'closed' ? 0 : 1);
  }
});

test('an overloaded server is asked to queue the next creation', () => {
  const { client, clock, socket } = harness();
  client.connect();
  socket().onopen();
  socket().say('CONERR,5,overloaded');
  clock.advance(500);
  socket().onopen();
  assert.match(socket().sent[1], /LS_ttl_millis=unlimited/);
  clock.advance(10000);
  assert.equal(client.status.state, 'connecting');
});

test('a refused subscription and a refused frequency reach their subscription only', () => {
  const { client, socket, events, subscribe, open } = harness();
  client.connect();
  open();
  const bad = subscribe({ mode: 'COMMAND' });
  const good = subscribe();
  socket().say('REQERR,1,24,Invalid mode for these items', 'REQOK,2', 'SUBOK,2,2,2');
  assert.deepEqual(events, [{ code: 24, message: 'Invalid mode for these items' }]);
  client.setFrequency(bad, 1); // no longer there: nothing is sent
  assert.equal(socket().sent.length, 4);
  client.setFrequency(good, 1);
  socket().say('REQERR,3,13,Frequency reconfiguration not allowed');
  assert.deepEqual(events.at(-1), { code: 13, message: 'Frequency reconfiguration not allowed' });
});

test('late updates of a removed subscription are dropped', () => {
  const { client, socket, events, subscribe, open } = harness();
  client.connect();
  open();
  const subscription = subscribe();
  socket().say('SUBOK,1,2,2');
  client.unsubscribe(subscription);
  assert.match(socket().sent.at(-1), /LS_op=delete&LS_subId=1$/);
  socket().say('U,1,1,1|2', 'EOS,1,1', 'CS,1,1', 'OV,1,1,3', 'UNSUB,1');
  assert.deepEqual(events, []);
  assert.equal(client.status.state, 'streaming');
});

test('DISTINCT: everything before EOS is snapshot', () => {
  const { client, socket, events, subscribe, open } = harness();
  client.connect();
  open();
  subscribe({ mode: 'DISTINCT' });
  socket().say('SUBOK,1,2,2', 'U,1,1,1|2', 'U,1,1,|3', 'EOS,1,1', 'U,1,1,|4');
  assert.deepEqual(events.map((event) => event.snapshot), [true, true, false]);
});

test('a server that breaks the protocol is left, with the reason', () => {
  for (const line of ['U,1,3,1|2', 'U,1,1,1', 'SUBOK,1,2,9', 'U,1,1,|', 'CONF,1,%']) {
    const { client, socket, subscribe, open } = harness();
    client.connect();
    open();
    subscribe();
    socket().say('SUBOK,1,2,2', line, 'U,1,1,1|2');
    assert.equal(client.status.state, 'closed', line);
    assert.match(client.status.reason, /^protocol error: /);
  }
});

test('unknown lines are skipped', () => {
  const { client, socket, open } = harness();
  client.connect();
  open();
  socket().say('NEWTAG,1,2', 'SYNC,5', 'NOOP,padding', 'PROG,0');
  assert.equal(client.status.state, 'streaming');
});

test('disconnect destroys the session and leaves no timer behind', () => {
  const { client, clock, socket, open } = harness();
  client.connect();
  open();
  client.disconnect();
  assert.match(socket().sent.at(-1), /^control\r\nLS_reqId=1&LS_op=destroy&LS_close_socket=true/);
  assert.ok(socket().closed);
  assert.equal(client.status.state, 'closed');
  assert.equal(clock.timers, 0);
});
