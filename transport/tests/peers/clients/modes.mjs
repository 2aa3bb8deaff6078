// The modes besides MERGE, on the demo's items in them. The environment is that of a case (recorder.mjs).

import { ADAPTER, check, connect, disconnect, makeClient, subscribe } from './recorder.mjs';

const SNAPSHOT_LEN = 3;
const COMMAND_FIELDS = ['key', 'command', 'qty', 'price'];
const SECOND_LEVEL_FIELDS = ['stock_name', 'last_price'];

/** The rows of a table as its commands make them; a command that does not fit is a failure. */
class Rows {
  rows = new Map();
  commands = { ADD: 0, UPDATE: 0, DELETE: 0 };

  take(update) {
    const [key, command] = [update.getValue('key'), update.getValue('command')];
    check(command in this.commands, `a command ${command}`);
    check(this.rows.has(key) === (command !== 'ADD'), `${command} of ${key}, which is ${this.rows.has(key) ? '' : 'not '}there`);
    this.commands[command]++;
    if (command === 'DELETE') this.rows.delete(key);
    else this.rows.set(key, update.getValue('qty'));
  }
}

function subscribeTable({ ls }, { client, events }, secondLevel = false) {
  const subscription = new ls.Subscription('COMMAND', ['portfolio1'], COMMAND_FIELDS);
  subscription.setDataAdapter(ADAPTER);
  subscription.setRequestedSnapshot('yes');
  if (secondLevel) {
    subscription.setCommandSecondLevelFields(SECOND_LEVEL_FIELDS);
    subscription.setCommandSecondLevelDataAdapter(ADAPTER);
  }
  const seen = { subscription, table: new Rows(), ends: 0, errors: [], early: 0, live: 0, prices: new Map() };
  subscription.addListener({
    onSubscriptionError: events.on((code, message) => seen.errors.push({ code, message })),
    onCommandSecondLevelSubscriptionError: events.on((code, message, key) => seen.errors.push({ code, message, key })),
    onEndOfSnapshot: events.on(() => seen.ends++),
    onItemUpdate: events.on((update) => {
      const second = secondLevel && update.getValue('command') === 'UPDATE' && SECOND_LEVEL_FIELDS.some((field) => update.isValueChanged(field));
      if (second) {
        // Such an update is of the second level: the key's row must be there.
        check(seen.table.rows.has(update.getValue('key')), `prices of ${update.getValue('key')}, which is not there`);
        seen.prices.set(update.getValue('key'), SECOND_LEVEL_FIELDS.map((field) => update.getValue(field)));
        return;
      }
      seen.table.take(update);
      if (seen.ends === 0) seen.early++;
      else seen.live++;
    }),
  });
  client.subscribe(subscription);
  return seen;
}

export const MODES = {
  async 'subscribes in DISTINCT mode, with a snapshot of some events'(env) {
    const seen = makeClient(env);
    await connect(seen);
    // Another subscription first: it makes the item's events, so that there is a past.
    const first = subscribe(env, seen, { mode: 'DISTINCT', items: ['trades'], fields: ['time', 'stock', 'price'] });
    await seen.events.until(() => first.updates.length >= 2 * SNAPSHOT_LEN, 'trades');
    const list = subscribe(env, seen, { mode: 'DISTINCT', items: ['trades'], fields: ['time', 'stock', 'price'], snapshot: String(SNAPSHOT_LEN) });
    await seen.events.until(() => list.updates.length >= SNAPSHOT_LEN + 5 && list.ends.length === 1, 'a snapshot and events behind it');
    const snapshot = list.updates.filter((update) => update.snapshot).length;
    check(snapshot === SNAPSHOT_LEN, `${snapshot} events of snapshot`);
    check(list.updates.slice(0, SNAPSHOT_LEN).every((update) => update.snapshot), 'the snapshot did not come first');
    check(list.lost === 0 && list.errors.length === 0, `${list.lost} lost, errors ${JSON.stringify(list.errors)}`);
    await disconnect(seen);
  },

  async 'subscribes in RAW mode'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const list = subscribe(env, seen, { mode: 'RAW', items: ['ticks'], fields: ['time', 'stock', 'price'] });
    await seen.events.until(() => list.updates.length >= 10, 'ticks');
    check(list.updates.every((update) => !update.snapshot), 'RAW has no snapshot');
    check(list.lost === 0 && list.errors.length === 0, `${list.lost} lost, errors ${JSON.stringify(list.errors)}`);
    await disconnect(seen);
  },

  async 'subscribes in COMMAND mode'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const list = subscribeTable(env, seen);
    await seen.events.until(() => list.ends === 1 && list.live >= 10, () => `a table and changes of it; ${list.ends} ends, ${list.live} changes`);
    check(list.table.rows.size > 0 && list.errors.length === 0, `${list.table.rows.size} rows, errors ${JSON.stringify(list.errors)}`);
    await disconnect(seen);
  },

  async 'subscribes to the items that the keys of a table name'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const list = subscribeTable(env, seen, true);
    await seen.events.until(() => list.prices.size >= 3 && list.live >= 10, () => `prices of rows; ${list.prices.size} have some, ${list.live} changes`);
    check(list.errors.length === 0, `errors ${JSON.stringify(list.errors)}`);
    for (const [key, values] of list.prices) check(values.every((value) => value), `${key} has no prices but ${values}`);
    await disconnect(seen);
  },
};
