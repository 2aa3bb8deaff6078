// A small TLCP 2.5 client over one WebSocket: sessions, subscriptions, live frequency changes,
// a keep-alive watchdog and reconnection. No dependencies; runs in browsers and in Node.
//
// It is meant to be read. It leaves out what a page does not need: HTTP transports, recovery of a
// broken session (a new session replaces the old one and gets fresh snapshots), messages, diffs.
//
//   const client = new TlcpClient({ url: 'ws://host/lightstreamer', adapterSet: 'DEMO',
//                                   bandwidth: 'unlimited',               // or kilobits per second, such as 5
//                                   onStatus: (status) => ...,
//                                   onBandwidth: ({ bandwidth }) => ... }); // what the server granted
//   client.connect();                    // subscriptions made before or after are all fine
//   const sub = client.subscribe({
//     adapter: 'QUOTE_ADAPTER', mode: 'MERGE', items: ['item1'], fields: ['bid', 'ask'],
//     frequency: 'unlimited',            // or updates per second and item, such as 2
//     onUpdate: ({ item, name, values, changed, snapshot }) => ...,   // item counts from 0
//     onConf: ({ frequency, filtered }) => ...,    // what the server granted
//     onError: ({ code, message }) => ...,         // subscription or frequency refused
//     onActive: () => ..., onEnd: () => ..., onLost: ({ name, count }) => ..., onClear: ({ name }) => ...,
//   });
//   client.setFrequency(sub, 2);
//   client.setBandwidth(5);
//   client.unsubscribe(sub);
//   client.disconnect();
//
// Callbacks must not throw: what follows in the same message of the server would be lost.
//
// status = { state, reason, retryAtMs, sessionId, keepaliveMs } with `state` one of
//   'connecting'    a socket is opening or the session is being created
//   'streaming'     a session is bound and the server was heard of recently
//   'stalled'       the server should have said something and did not
//   'reconnecting'  waiting until `retryAtMs` (Date.now() scale) for the next try
//   'closed'        over, because of disconnect() or an error that a retry cannot cure
// and `reason` telling the last trouble, null from the start or once a session streams.

const VERSION = '2.5.0';
const SUBPROTOCOL = `TLCP-${VERSION}.lightstreamer.com`;
// The client id that the specification gives to all custom clients.
const CLIENT_ID = 'mgQkwtwdysogQz2BJ4Ji kOj2Bg';

// The official SDKs use the same figures: 4 s for an answer, 2 s of grace, then 3 s more.
const CONNECT_TIMEOUT_MS = 4000;
const STALLED_GRACE_MS = 2000;
const LOST_AFTER_STALLED_MS = 3000;
// Our choice: quick first retry, doubling, with jitter so that many pages do not return at once.
const RETRY_DELAY_MS_MIN = 500;
const RETRY_DELAY_MS_MAX = 30000;

// Codes of CONERR and END after which a new session may well succeed.
const RETRY_CONERR = new Set([4, 5, 6, 20, 40, 41, 48]);
const RETRY_END = new Set([41, 48]);

/** The peer broke the protocol: not curable by a retry. */
export class ProtocolError extends Error {}

/** Undoes the percent encoding of values and arguments. */
export function decodeText(text) {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    throw new ProtocolError(`invalid percent encoding in "${text}"`);
  }
}

/**
 * Decodes the field list of a `U` line (TLCP, Real-Time Update).
 * `previous` holds the item's values of the last update, or is null for the first one.
 * Returns `{ values, changed }`, both of length `fieldCount`; a null value is null, an empty one ''.
 */
export function decodeFields(list, previous, fieldCount) {
  const values = [];
  const changed = [];
  const keep = () => {
    if (!previous) throw new ProtocolError('the first update of an item has an unchanged field');
    values.push(previous[values.length]);
    changed.push(false);
  };
  for (const token of list.split('|')) {
    // Checked in front of each token, so that a hostile list cannot grow the arrays.
    if (values.length >= fieldCount) throw new ProtocolError('an update has too many fields');
    if (token === '') {
      keep();
    } else if (/^\^\d+$/.test(token)) {
      const run = Number(token.slice(1));
      if (run < 1 || values.length + run > fieldCount) throw new ProtocolError(`bad run of unchanged fields: ${token}`);
      for (let i = 0; i < run; i++) keep();
    } else if (token[0] === '^') {
      throw new ProtocolError('a difference was sent though none was asked for');
    } else {
      const value = token === '#' ? null : token === '$' ? '' : decodeText(token);
      changed.push(!previous || value !== previous[values.length]);
      values.push(value);
    }
  }
  if (values.length !== fieldCount) {
    throw new ProtocolError(`an update has ${values.length} fields instead of ${fieldCount}`);
  }
  return { values, changed };
}

/** Splits a line into `[tag, argument, ...]`, arguments decoded. The list of a `U` line stays raw. */
export function parseLine(line) {
  if (line.startsWith('U,')) {
    // Only the first three commas separate: the list may hold more.
    const second = line.indexOf(',', 2);
    const third = line.indexOf(',', second + 1);
    if (second < 0 || third < 0) throw new ProtocolError(`malformed update: ${line.slice(0, 80)}`);
    return ['U', line.slice(2, second), line.slice(second + 1, third), line.slice(third + 1)];
  }
  return line.split(',').map(decodeText);
}

/** Writes one request: its name, then one line of `name=value` pairs. Undefined values are left out. */
export function encodeRequest(name, parameters) {
  const pairs = Object.entries(parameters)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
  return `${name}\r\n${pairs.join('&')}`;
}

/** The time to wait before try number `attempt` (from 1); `random` is in [0, 1). */
export function retryDelayMs(attempt, random) {
  const ceiling = Math.min(RETRY_DELAY_MS_MAX, RETRY_DELAY_MS_MIN * 2 ** Math.min(attempt - 1, 16));
  return Math.round(ceiling * (0.75 + random / 2));
}

const SYSTEM_CLOCK = {
  now: () => Date.now(),
  setTimeout: (run, delayMs) => setTimeout(run, delayMs),
  clearTimeout: (timer) => clearTimeout(timer),
  random: () => Math.random(),
};

/** See the head of this file. `WebSocket` and `clock` can be replaced, which the tests do. */
export class TlcpClient {
  #options;
  #clock;
  #status = { state: 'closed', reason: 'not connected yet', retryAtMs: null, sessionId: null, keepaliveMs: null };
  #socket = null;
  #timer = null;             // the one running timer: connect timeout, watchdog or retry
  #lastHeardMs = 0;
  #attempt = 0;              // tries since the last session
  #oldSession;               // replaced by the next session: the server can drop it at once
  #bandwidth;                // what is asked for, whatever the session
  #overloaded = false;       // after CONERR 5 the next create asks to be queued instead of refused
  #bound = false;
  #subscriptions = new Map(); // by id
  #requests = new Map();      // reqId -> what to do on REQERR
  #nextSubscription = 1;
  #nextRequest = 1;

  constructor({
    url, adapterSet, bandwidth = 'unlimited', WebSocket = globalThis.WebSocket, clock = SYSTEM_CLOCK,
    onStatus = () => {}, onBandwidth = () => {},
  }) {
    this.#options = { url, adapterSet, WebSocket, onStatus, onBandwidth };
    this.#clock = clock;
    this.#bandwidth = bandwidth;
  }

  get status() {
    return this.#status;
  }

  /** Clock time of the last message of the server, keep-alives included. */
  get lastHeardMs() {
    return this.#lastHeardMs;
  }

  /** Starts, or skips the wait of 'reconnecting'. Without effect in the other states. */
  connect() {
    if (this.#status.state !== 'closed' && this.#status.state !== 'reconnecting') return;
    if (this.#status.state === 'closed') this.#status = { ...this.#status, reason: null };
    this.#attempt = 0;
    this.#open();
  }

  disconnect(reason = 'disconnected') {
    if (this.#bound) this.#request('control', { LS_op: 'destroy', LS_close_socket: 'true', LS_cause: 'api' });
    this.#oldSession = undefined;
    this.#close(reason);
  }

  subscribe(wanted) {
    const id = this.#nextSubscription++;
    const subscription = { mode: 'MERGE', frequency: 'unlimited', ...wanted, id, rows: [] };
    this.#subscriptions.set(id, subscription);
    if (this.#bound) this.#add(subscription);
    return subscription;
  }

  unsubscribe(subscription) {
    if (!this.#subscriptions.has(subscription.id)) return;
    if (this.#bound) {
      // Updates may still arrive until UNSUB; they are dropped because the id is no longer known.
      this.#request('control', { LS_op: 'delete', LS_subId: subscription.id });
    }
    this.#subscriptions.delete(subscription.id);
    subscription.onEnd?.();
  }

  /** `frequency`: updates per second and item, or 'unlimited'. The answer comes through `onConf`. */
  setFrequency(subscription, frequency) {
    subscription.frequency = frequency;
    if (!this.#bound || !this.#subscriptions.has(subscription.id)) return;
    const onError = (code, message) => subscription.onError?.({ code, message });
    this.#request('control', {
      LS_op: 'reconf', LS_subId: subscription.id, LS_requested_max_frequency: frequency,
    }, onError);
  }

  /** `kbps`: kilobits per second for all that the server sends, or 'unlimited'. The answer comes through `onBandwidth`. */
  setBandwidth(kbps) {
    this.#bandwidth = kbps;
    if (!this.#bound) return;
    this.#request('control', { LS_op: 'constrain', LS_requested_max_bandwidth: kbps });
  }

  // ---- the connection ----

  #open() {
    this.#setStatus({ state: 'connecting', retryAtMs: null, sessionId: null });
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#options.url, SUBPROTOCOL);
    } catch (error) {
      this.#close(`cannot connect: ${error.message}`); // a malformed address
      return;
    }
    this.#socket = socket;
    const current = () => socket === this.#socket; // events of abandoned sockets are not for us
    socket.onopen = () => current() && this.#create();
    socket.onmessage = (event) => current() && this.#receive(event.data);
    socket.onclose = () => current() && this.#lost('the connection was lost');
    socket.onerror = () => {}; // a close event follows
    this.#arm(CONNECT_TIMEOUT_MS, () => this.#lost('the server did not answer in time'));
  }

  #create() {
    this.#socket.send('wsok');
    this.#socket.send(encodeRequest('create_session', {
      LS_adapter_set: this.#options.adapterSet,
      LS_cid: CLIENT_ID,
      LS_supported_diffs: '',
      LS_send_sync: 'false',
      LS_old_session: this.#oldSession,
      LS_requested_max_bandwidth: this.#bandwidth === 'unlimited' ? undefined : this.#bandwidth,
      LS_ttl_millis: this.#overloaded ? 'unlimited' : undefined,
    }));
    // A create that the server may queue deserves more patience; 60 s is what the official SDKs give.
    if (this.#overloaded) this.#arm(60000, () => this.#lost('the server is overloaded'));
  }

  #lost(reason) {
    this.#dropSocket();
    const delayMs = retryDelayMs(++this.#attempt, this.#clock.random());
    this.#setStatus({ state: 'reconnecting', reason, retryAtMs: this.#clock.now() + delayMs, sessionId: null });
    this.#arm(delayMs, () => this.#open());
  }

  #close(reason) {
    this.#dropSocket();
    this.#setStatus({ state: 'closed', reason, retryAtMs: null, sessionId: null });
  }

  #dropSocket() {
    this.#disarm();
    this.#bound = false;
    this.#requests.clear();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #setStatus(change) {
    this.#status = { ...this.#status, ...change };
    this.#options.onStatus(this.#status);
  }

  // ---- timers ----

  #arm(delayMs, run) {
    this.#disarm();
    this.#timer = this.#clock.setTimeout(run, delayMs);
  }

  #disarm() {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
  }

  // One timer for all lines: it looks at the time of the last one instead of being moved by each.
  #watch() {
    const silenceMs = this.#clock.now() - this.#lastHeardMs;
    const stalledMs = this.#status.keepaliveMs + STALLED_GRACE_MS;
    const lostMs = stalledMs + LOST_AFTER_STALLED_MS;
    if (silenceMs >= lostMs) {
      this.#lost('the server fell silent');
      return;
    }
    if (silenceMs >= stalledMs && this.#status.state === 'streaming') this.#setStatus({ state: 'stalled' });
    this.#arm((silenceMs >= stalledMs ? lostMs : stalledMs) - silenceMs, () => this.#watch());
  }

  // ---- requests ----

  #request(name, parameters, onError) {
    const id = this.#nextRequest++;
    this.#requests.set(String(id), onError); // until REQOK or REQERR
    this.#socket.send(encodeRequest(name, { LS_reqId: id, ...parameters }));
  }

  #add(subscription) {
    subscription.rows = subscription.items.map(() => ({ values: null, live: false }));
    this.#request('control', {
      LS_op: 'add',
      LS_subId: subscription.id,
      LS_mode: subscription.mode,
      LS_group: subscription.items.join(' '),
      LS_schema: subscription.fields.join(' '),
      LS_data_adapter: subscription.adapter,
      LS_snapshot: subscription.mode === 'RAW' ? undefined : 'true',
      LS_requested_max_frequency: subscription.frequency,
    }, (code, message) => {
      this.#subscriptions.delete(subscription.id);
      subscription.onError?.({ code, message });
    });
  }

  // ---- notifications ----

  #receive(data) {
    this.#lastHeardMs = this.#clock.now();
    if (this.#status.state === 'stalled') this.#setStatus({ state: 'streaming' });
    try {
      if (typeof data !== 'string') throw new ProtocolError('the server sent a binary message');
      const socket = this.#socket;
      for (const line of data.split('\r\n')) {
        if (line !== '') this.#line(parseLine(line));
        if (this.#socket !== socket) return; // this line ended the connection
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#close(`protocol error: ${error.message}`);
    }
  }

  #line([tag, ...args]) {
    switch (tag) {
      case 'U': return this.#update(args);
      case 'CONOK': return this.#connected(args);
      case 'CONERR': return this.#refused(Number(args[0]), args[1]);
      case 'END': return this.#ended(Number(args[0]), args[1], RETRY_END);
      case 'LOOP': return this.#rebind();
      case 'REQOK': return void this.#requests.delete(args[0]);
      case 'REQERR': return this.#requestRefused(args);
      case 'ERROR': return this.#close(`${args[1]} (code ${args[0]})`);
      case 'CONF': return this.#notify(args[0], 'onConf', { frequency: args[1], filtered: args[2] === 'filtered' });
      case 'SUBOK':
      case 'SUBCMD': return this.#active(args);
      case 'UNSUB': return this.#unsubscribed(args[0]);
      case 'EOS': return void (this.#row(args).live = true);
      case 'CONS': return this.#options.onBandwidth({ bandwidth: args[0] });
      case 'CS': return this.#notify(args[0], 'onClear', { name: this.#itemName(args) });
      case 'OV': return this.#notify(args[0], 'onLost', { name: this.#itemName(args), count: Number(args[2]) });
      // PROBE is a sign of life and was counted as one. WSOK, SERVNAME, CLIENTIP, SYNC, NOOP and PROG
      // say nothing that this client acts on; tags of later versions are skipped as well.
      default: return undefined;
    }
  }

  #connected([sessionId, , keepalive]) {
    const fresh = sessionId !== this.#oldSession; // else it is the answer to the bind after a LOOP
    this.#attempt = 0;
    this.#overloaded = false;
    this.#bound = true;
    this.#oldSession = sessionId;
    this.#setStatus({ state: 'streaming', reason: null, sessionId, keepaliveMs: Number(keepalive) });
    this.#watch();
    if (fresh) for (const subscription of this.#subscriptions.values()) this.#add(subscription);
  }

  #refused(code, message) {
    if (code === 5) this.#overloaded = true;
    this.#ended(code, message, RETRY_CONERR);
  }

  #ended(code, message, retryCodes) {
    this.#oldSession = undefined; // the server knows that it is over
    const reason = `${message || 'closed by the server'} (code ${code})`;
    if (retryCodes.has(code)) this.#lost(reason);
    else this.#close(reason);
  }

  // The server wants the session to be bound anew, on this socket; subscriptions and values live on.
  #rebind() {
    this.#socket.send(encodeRequest('bind_session', { LS_session: this.#oldSession, LS_send_sync: 'false' }));
  }

  #requestRefused([requestId, code, message]) {
    if (Number(code) === 20) { // the session is gone, which only the stream should have told
      this.#oldSession = undefined;
      this.#lost(`${message} (code 20)`);
      return;
    }
    const onError = this.#requests.get(requestId);
    this.#requests.delete(requestId);
    onError?.(Number(code), message);
  }

  #active([id, itemCount, fieldCount]) {
    const subscription = this.#subscriptions.get(Number(id));
    if (!subscription) return;
    if (Number(itemCount) !== subscription.items.length || Number(fieldCount) !== subscription.fields.length) {
      throw new ProtocolError(`subscription ${id} came back with other items or fields`);
    }
    subscription.onActive?.();
  }

  #unsubscribed(id) {
    const subscription = this.#subscriptions.get(Number(id));
    if (!subscription) return; // our own unsubscribe
    this.#subscriptions.delete(subscription.id);
    subscription.onEnd?.();
  }

  #update([id, item, list]) {
    const subscription = this.#subscriptions.get(Number(id));
    if (!subscription) return; // sent before the server saw our delete
    const row = this.#row([id, item]);
    const { values, changed } = decodeFields(list, row.values, subscription.fields.length);
    row.values = values;
    // MERGE: the first update is the snapshot. DISTINCT and COMMAND: all until EOS. RAW has none.
    const snapshot = subscription.mode !== 'RAW' && !row.live;
    if (subscription.mode === 'MERGE') row.live = true;
    const index = Number(item) - 1;
    subscription.onUpdate?.({ item: index, name: subscription.items[index], values, changed, snapshot });
  }

  // An unknown subscription gets a throw-away row: its last lines may follow our delete.
  #row([id, item]) {
    const subscription = this.#subscriptions.get(Number(id));
    if (!subscription) return {};
    const row = subscription.rows[Number(item) - 1];
    if (!row) throw new ProtocolError(`subscription ${id} has no item ${item}`);
    return row;
  }

  #itemName([id, item]) {
    return this.#subscriptions.get(Number(id))?.items[Number(item) - 1];
  }

  #notify(id, callback, event) {
    this.#subscriptions.get(Number(id))?.[callback]?.(event);
  }
}
