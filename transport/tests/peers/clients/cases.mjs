// What every official JavaScript client must see on every transport. A case resolves, or rejects with what went
// wrong; its environment is explained in recorder.mjs.

import { MESSAGES } from './messages.mjs';
import { MODES } from './modes.mjs';
import {
  FIELDS, ITEMS, check, connect, disconnect, makeClient, reach, sessionOf, subscribe, withClients,
} from './recorder.mjs';

const TRANSPORTS = ['WS-STREAMING', 'HTTP-STREAMING', 'WS-POLLING', 'HTTP-POLLING'];

const CASES = {
  ...MESSAGES,
  ...MODES,

  async 'connects and disconnects'(env) {
    const seen = makeClient(env);
    await connect(seen);
    check(seen.errors.length === 0, `server errors: ${JSON.stringify(seen.errors)}`);
    check(/^S[A-Za-z0-9]+$/.test(sessionOf(seen)), `the session id has an odd form: ${sessionOf(seen)}`);
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

  async 'changes its transport while it is connected'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const session = sessionOf(seen);
    const list = subscribe(env, seen);
    const first = env.transport ?? 'WS-STREAMING';
    for (const transport of [...TRANSPORTS.filter((other) => other !== first), first]) {
      seen.client.connectionOptions.setForcedTransport(transport);
      await reach(seen, `CONNECTED:${transport}`);
      const count = list.updates.length;
      await seen.events.until(() => list.updates.length >= count + 3, `updates by ${transport}`);
    }
    check(sessionOf(seen) === session, `session ${session} became ${sessionOf(seen)}`);
    check(list.subscribed === 1 && list.errors.length === 0, `onSubscription came ${list.subscribed} times; errors: ${JSON.stringify(list.errors)}`);
    await disconnect(seen);
  },

  async 'connects again after it has disconnected'(env) {
    const seen = makeClient(env);
    const list = subscribe(env, seen, { items: ['item4'] });
    await connect(seen);
    await seen.events.until(() => list.updates.length > 0, 'updates');
    const session = sessionOf(seen);
    await disconnect(seen);
    list.rows.clear(); // the next update is a snapshot again
    const count = list.updates.length;
    await connect(seen);
    await seen.events.until(() => list.updates.length > count, 'updates of the second session');
    check(sessionOf(seen) !== session, 'the second session has the id of the first');
    await disconnect(seen);
  },

  async 'is told of an unknown adapter set'(env) {
    const seen = makeClient(env, 'NO_SUCH_SET');
    seen.client.connect();
    await seen.events.until(() => seen.errors.length > 0, 'onServerError');
    check(seen.errors[0].code === 2, `onServerError ${JSON.stringify(seen.errors[0])} instead of code 2`);
    check(seen.errors[0].message === 'Requested Adapter Set not available', `unexpected text: ${seen.errors[0].message}`);
    await reach(seen, 'DISCONNECTED');
  },

  async 'is told of a mode the item does not have'(env) {
    // The one that it has is that of whoever came first.
    await refused(env, { mode: 'DISTINCT', items: ['item1'] }, 24, true);
  },

  async 'is told of an unknown data adapter'(env) {
    await refused(env, { adapter: 'NO_SUCH_ADAPTER' }, 17);
  },
};

export const CASE_NAMES = Object.keys(CASES);

export function runCase(name, env) {
  return withClients(env, CASES[name]);
}

async function refused(env, options, code, after = false) {
  const seen = makeClient(env);
  await connect(seen);
  if (after) {
    const first = subscribe(env, seen);
    await seen.events.until(() => first.updates.length > 0, 'updates of the first subscription');
  }
  const bad = subscribe(env, seen, options);
  await seen.events.until(() => bad.errors.length > 0, 'onSubscriptionError');
  check(bad.errors[0].code === code, `onSubscriptionError ${JSON.stringify(bad.errors[0])} instead of code ${code}`);
  // The session survives it.
  const good = subscribe(env, seen);
  await seen.events.until(() => good.updates.length > 0, 'updates of another subscription');
  await disconnect(seen);
}
