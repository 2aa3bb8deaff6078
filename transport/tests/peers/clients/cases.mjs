// What every official JavaScript client must see, once for Node and once for browsers: both packages have
// the same interface, and this file uses nothing of either environment but timers.
//
// The environment of a case is `{ ls, address, transport }`: the client module, the server's http address,
// and a forced transport or null. A case resolves, or rejects with what went wrong.

const ADAPTER = 'QUOTE_ADAPTER';
const ITEMS = ['item1', 'item2', 'item3'];
const FIELDS = ['stock_name', 'last_price', 'time', 'bid'];
const WAIT_MS_MAX = 20_000; // a bound, not an expectation

/** Collects what listeners report; `until` waits for a condition on it. */
class Events {
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
      const timer = setTimeout(() => finish(fail, new Error(`waited in vain for: ${what}`)), waitMsMax);
      this.#waiters.add(look);
      look();
    });
  }
}

function check(condition, what) {
  if (!condition) throw new Error(what);
}

/** A client whose status, errors and properties are recorded. */
function makeClient({ ls, address, transport, clients }, adapterSet = 'DEMO') {
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
  seen.status = () => seen.statuses.at(-1);
  return seen;
}

async function connect(seen) {
  seen.client.connect();
  await seen.events.until(() => seen.status() === 'CONNECTED:WS-STREAMING', 'CONNECTED:WS-STREAMING');
}

async function disconnect(seen) {
  seen.client.disconnect();
  await seen.events.until(() => seen.status() === 'DISCONNECTED', 'DISCONNECTED');
}

/** Subscribes and records; checks each update against the client's own views of it. */
function subscribe({ ls }, { client, events }, { mode = 'MERGE', items = ITEMS, fields = FIELDS, adapter = ADAPTER, frequency } = {}) {
  const subscription = new ls.Subscription(mode, items, fields);
  subscription.setDataAdapter(adapter);
  subscription.setRequestedSnapshot('yes');
  if (frequency) subscription.setRequestedMaxFrequency(frequency);
  const seen = { subscription, subscribed: 0, unsubscribed: 0, updates: [], errors: [], frequencies: [], lost: 0, rows: new Map() };
  subscription.addListener({
    onSubscription: events.on(() => seen.subscribed++),
    onUnsubscription: events.on(() => seen.unsubscribed++),
    onSubscriptionError: events.on((code, message) => seen.errors.push({ code, message })),
    onRealMaxFrequency: events.on((value) => seen.frequencies.push(value)),
    onItemLostUpdates: events.on((_name, _position, count) => { seen.lost += count; }),
    onItemUpdate: events.on((update) => record(seen, update, fields)),
  });
  client.subscribe(subscription);
  return seen;
}

function record(seen, update, fields) {
  const item = update.getItemName();
  const values = fields.map((field) => update.getValue(field));
  const previous = seen.rows.get(item);
  const first = previous === undefined;
  check(update.isSnapshot() === first, `${item}: isSnapshot is ${update.isSnapshot()} on ${first ? 'the first update' : 'a later one'}`);
  fields.forEach((field, i) => {
    check(update.getValue(i + 1) === values[i], `${item}: ${field} differs by name and by position`);
    const changed = first || previous[i] !== values[i];
    // A client may call a re-sent value changed; an unmarked change would be a decoding error.
    check(update.isValueChanged(field) || !changed, `${item}: ${field} changed without being marked`);
  });
  seen.rows.set(item, values);
  seen.updates.push({ item, position: update.getItemPos(), snapshot: update.isSnapshot(), values });
}

const CASES = {
  async 'connects and disconnects'(env) {
    const seen = makeClient(env);
    await connect(seen);
    check(seen.errors.length === 0, `server errors: ${JSON.stringify(seen.errors)}`);
    check(/^S[A-Za-z0-9]+$/.test(seen.client.connectionDetails.getSessionId()), 'the session id has an odd form');
    // These lines follow CONOK.
    const details = seen.client.connectionDetails;
    await seen.events.until(() => typeof details.getServerSocketName() === 'string', 'SERVNAME');
    await seen.events.until(() => details.getClientIp() === '127.0.0.1', 'CLIENTIP,127.0.0.1');
    await disconnect(seen);
  },

  async 'receives a snapshot and live updates'(env) {
    const seen = makeClient(env);
    const list = subscribe(env, seen);
    await connect(seen);
    await seen.events.until(() => list.rows.size === ITEMS.length, 'a snapshot of each item');
    await seen.events.until(() => list.updates.filter((update) => !update.snapshot).length >= 5, '5 live updates');
    check(list.subscribed === 1, `onSubscription came ${list.subscribed} times`);
    for (const item of ITEMS) {
      const first = list.updates.find((update) => update.item === item);
      check(first.values.every((value) => typeof value === 'string' && value !== ''), `${item}: the snapshot lacks values: ${JSON.stringify(first.values)}`);
      check(first.position === ITEMS.indexOf(item) + 1, `${item} has position ${first.position}`);
    }
    // The subscription may be ahead of its listeners, but not for good.
    await seen.events.until(() => ITEMS.every((item) => FIELDS.every((field, i) =>
      list.subscription.getValue(item, field) === list.rows.get(item)[i])), 'the subscription to hold what its listener was told');
    check(list.lost === 0, `${list.lost} updates were lost`);
    await disconnect(seen);
  },

  async 'adds a second subscription and removes the first'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const first = subscribe(env, seen);
    await seen.events.until(() => first.updates.length > 0, 'updates of the first subscription');
    const second = subscribe(env, seen, { items: ['item3', 'item30'], fields: ['ask', 'last_price', 'item_status'] });
    await seen.events.until(() => second.rows.size === 2, 'snapshots of the second subscription');
    seen.client.unsubscribe(first.subscription);
    await seen.events.until(() => first.unsubscribed === 1, 'onUnsubscription');
    const [before, other] = [first.updates.length, second.updates.length];
    await seen.events.until(() => second.updates.length >= other + 3, 'the second subscription to go on');
    check(first.updates.length === before, 'updates came after onUnsubscription');
    await disconnect(seen);
  },

  async 'changes the frequency of a live subscription'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const list = subscribe(env, seen, { frequency: 'unlimited' });
    await seen.events.until(() => list.frequencies.at(-1) === 'unlimited', 'a real frequency of unlimited');
    list.subscription.setRequestedMaxFrequency(2);
    await seen.events.until(() => Number(list.frequencies.at(-1)) === 2, 'a real frequency of 2');
    const count = list.updates.length;
    await seen.events.until(() => list.updates.length > count, 'updates at 2 per second');
    list.subscription.setRequestedMaxFrequency('unlimited');
    await seen.events.until(() => list.frequencies.at(-1) === 'unlimited', 'a real frequency of unlimited again');
    await disconnect(seen);
  },

  async 'gets the bandwidth it asks for'(env) {
    const seen = makeClient(env);
    seen.client.connectionOptions.setRequestedMaxBandwidth(50);
    await connect(seen);
    const granted = () => Number(seen.client.connectionOptions.getRealMaxBandwidth());
    await seen.events.until(() => granted() === 50, 'a real bandwidth of 50');
    seen.client.connectionOptions.setRequestedMaxBandwidth(40);
    await seen.events.until(() => granted() === 40, 'a real bandwidth of 40');
    check(seen.properties.includes('realMaxBandwidth'), 'onPropertyChange did not come');
    await disconnect(seen);
  },

  async 'is told of an unknown adapter set'(env) {
    const seen = makeClient(env, 'NO_SUCH_SET');
    seen.client.connect();
    await seen.events.until(() => seen.errors.length > 0, 'onServerError');
    check(seen.errors[0].code === 2, `onServerError ${JSON.stringify(seen.errors[0])} instead of code 2`);
    check(seen.errors[0].message === 'Requested Adapter Set not available', `unexpected text: ${seen.errors[0].message}`);
    await seen.events.until(() => seen.status() === 'DISCONNECTED', 'DISCONNECTED');
  },

  async 'is told of a mode the item does not have'(env) {
    await refused(env, { mode: 'DISTINCT', items: ['item1'] }, 24);
  },

  async 'is told of an unknown data adapter'(env) {
    await refused(env, { adapter: 'NO_SUCH_ADAPTER' }, 17);
  },
};

export const CASE_NAMES = Object.keys(CASES);

export function runCase(name, env) {
  return withClients(env, CASES[name]);
}

/** Runs `run` and leaves no client behind, whatever happens: a forgotten one would try to connect for ever. */
async function withClients(env, run) {
  const clients = [];
  try {
    return await run({ ...env, clients });
  } finally {
    for (const client of clients) client.disconnect(); // without effect on a disconnected one
  }
}

async function refused(env, options, code) {
  const seen = makeClient(env);
  await connect(seen);
  const bad = subscribe(env, seen, options);
  await seen.events.until(() => bad.errors.length > 0, 'onSubscriptionError');
  check(bad.errors[0].code === code, `onSubscriptionError ${JSON.stringify(bad.errors[0])} instead of code ${code}`);
  // The session survives it.
  const good = subscribe(env, seen);
  await seen.events.until(() => good.updates.length > 0, 'updates of another subscription');
  await disconnect(seen);
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
  }, 'the last values of the file', 3 * WAIT_MS_MAX);
  await disconnect(seen);
  return list.updates.map((update, i) => ({ ...update, atMs: times[i] }));
}
