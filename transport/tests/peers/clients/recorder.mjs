// A client and its subscriptions with all that they report, for Node and browsers, generations 9 and 8: the
// packages have one interface, and this file uses nothing of either environment but timers.
//
// The environment of a case is `{ ls, address, transport, generation }`: the client module, the server's http
// address, a forced transport or null, and the module's major version; with `cookies: true` requests carry them.

export const ADAPTER = 'QUOTE_ADAPTER';
export const ITEMS = ['item1', 'item2', 'item3'];
export const FIELDS = ['stock_name', 'last_price', 'time', 'bid'];
const WAIT_MS_MAX = 30_000; // a bound, not an expectation

/** Collects what listeners report; `until` waits for a condition on it. */
export class Events {
  #waiters = new Set();
  failure = null;

  /** Wraps a listener's method: runs it, keeps what it throws, then looks who waits. */
  on(run) {
    return (...args) => {
      try {
        run(...args);
      } catch (error) {
        this.failure ??= error; // the client library would swallow it
      }
      for (const look of this.#waiters) look();
    };
  }

  until(condition, what, waitMsMax = WAIT_MS_MAX) {
    return new Promise((done, fail) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.#waiters.delete(look);
        settle(value);
      };
      const look = () => {
        if (this.failure) finish(fail, this.failure);
        else if (condition()) finish(done);
      };
      const late = () => finish(fail, new Error(`waited in vain for: ${typeof what === 'function' ? what() : what}`));
      const timer = setTimeout(late, waitMsMax);
      this.#waiters.add(look);
      look();
    });
  }
}

export function check(condition, what) {
  if (!condition) throw new Error(what);
}

/** A client whose status, errors and properties are recorded. */
export function makeClient({ ls, address, transport, cookies, clients }, adapterSet = 'DEMO') {
  const events = new Events();
  const client = new ls.LightstreamerClient(address, adapterSet);
  clients.push(client);
  const seen = { client, events, statuses: [], errors: [], properties: [] };
  client.addListener({
    onStatusChange: events.on((status) => seen.statuses.push(status)),
    onServerError: events.on((code, message) => seen.errors.push({ code, message })),
    onPropertyChange: events.on((name) => seen.properties.push(name)),
  });
  if (transport) client.connectionOptions.setForcedTransport(transport);
  if (cookies) client.connectionOptions.setCookieHandlingRequired(true);
  // Left alone, each client must end on what it prefers.
  seen.wanted = `CONNECTED:${transport ?? 'WS-STREAMING'}`;
  seen.status = () => seen.statuses.at(-1);
  return seen;
}

export async function connect(seen) {
  seen.client.connect();
  await reach(seen, seen.wanted);
}

export function reach(seen, status) {
  return seen.events.until(() => seen.status() === status, () => `${status}; it went ${seen.statuses} ${JSON.stringify(seen.errors)}`);
}

/** The session's id; it must be there once the client is connected. */
export function sessionOf(seen) {
  // Generation 8 has no getter for it on all platforms; absent is not wrong there.
  return seen.client.connectionDetails.getSessionId();
}

export async function disconnect(seen) {
  seen.client.disconnect();
  await reach(seen, 'DISCONNECTED');
}

/** Subscribes and records; checks each update against the client's own views of it. */
export function subscribe({ ls }, { client, events }, options = {}) {
  const { mode = 'MERGE', items = ITEMS, fields = FIELDS, adapter = ADAPTER, frequency, snapshot = 'yes', buffer, check: checked = mode === 'MERGE' } = options;
  const subscription = new ls.Subscription(mode, items, fields);
  subscription.setDataAdapter(adapter);
  if (mode !== 'RAW') subscription.setRequestedSnapshot(snapshot);
  if (frequency) subscription.setRequestedMaxFrequency(frequency);
  if (buffer) subscription.setRequestedBufferSize(buffer);
  const seen = {
    subscription, subscribed: 0, unsubscribed: 0, updates: [], errors: [], frequencies: [], lost: 0, rows: new Map(), ends: [], clears: [],
  };
  subscription.addListener({
    onSubscription: events.on(() => seen.subscribed++),
    onUnsubscription: events.on(() => seen.unsubscribed++),
    onSubscriptionError: events.on((code, message) => seen.errors.push({ code, message })),
    onRealMaxFrequency: events.on((value) => seen.frequencies.push(value)),
    onItemLostUpdates: events.on((_name, _position, count) => { seen.lost += count; }),
    onEndOfSnapshot: events.on((name) => seen.ends.push(name)),
    onClearSnapshot: events.on((name) => seen.clears.push(name)),
    onItemUpdate: events.on((update) => record(seen, update, fields, checked)),
  });
  client.subscribe(subscription);
  return seen;
}

function record(seen, update, fields, checked) {
  const item = update.getItemName();
  const values = fields.map((field) => update.getValue(field));
  const previous = seen.rows.get(item);
  const first = previous === undefined;
  if (checked) check(update.isSnapshot() === first, `${item}: isSnapshot is ${update.isSnapshot()} on ${first ? 'the first update' : 'a later one'}`);
  fields.forEach((field, i) => {
    check(update.getValue(i + 1) === values[i], `${item}: ${field} differs by name and by position`);
    if (!checked) return; // in COMMAND what changed is told against the key's row
    const changed = first || previous[i] !== values[i];
    // A client may call a re-sent value changed; an unmarked change would be a decoding error.
    check(update.isValueChanged(field) || !changed, `${item}: ${field} changed without being marked`);
  });
  seen.rows.set(item, values);
  seen.updates.push({ item, position: update.getItemPos(), snapshot: update.isSnapshot(), values });
}

/** Runs `run` and leaves no client behind, whatever happens: a forgotten one would try to connect for ever. */
export async function withClients(env, run) {
  const clients = [];
  try {
    return await run({ ...env, clients });
  } finally {
    for (const client of clients) client.disconnect(); // without effect on a disconnected one
  }
}

/**
 * Collects all updates of a subscription until `done(rows)` holds; `rows` maps an item to its latest values.
 * Resolves to the updates in order, each `{ item, values, atMs }`.
 */
export function collect(env, wanted) {
  return withClients(env, (own) => collectWith(own, wanted));
}

async function collectWith(env, { items, fields, adapter, frequency, done }) {
  const seen = makeClient(env);
  await connect(seen);
  const list = subscribe(env, seen, { items, fields, adapter, frequency });
  const times = [];
  await seen.events.until(() => {
    while (times.length < list.updates.length) times.push(performance.now());
    if (list.errors.length > 0) throw new Error(`refused: ${JSON.stringify(list.errors[0])}`);
    return done(list.rows);
  }, 'the last values of the file', 2 * WAIT_MS_MAX);
  await disconnect(seen);
  return list.updates.map((update, i) => ({ ...update, atMs: times[i] }));
}
