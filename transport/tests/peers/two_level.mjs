// Two-level push: each key of a COMMAND item is the name of a MERGE item, and the client opens a subscription of its own for
// each row and closes it with the row. Hundreds of rows that come and go at once are bursts of so many small requests.
//
//   node two_level.mjs          (also part of run.mjs; same environment)
//
// The test is the data adapter. The client must end with exactly the rows and prices that were published, and the server,
// which says so by its status adapter, with as many subscriptions as the client has.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';

import { Events, check } from './clients/recorder.mjs';
import { startLineFeed } from './support/line_feed.mjs';

const ROWS = 400;
/** The table, and the one that tells of the session. */
const OWN_SUBSCRIPTIONS = 2;

const STATUS = `
    [[adapter_sets.data]]
    name = "STATUS"
    kind = "status"
`;

const keys = (from, until) => Array.from({ length: until - from }, (_, i) => `key${from + i}`);

/** The official client, with its table as its listener was told of it. */
function startClient(address, transport) {
  const ls = createRequire(import.meta.url)('lightstreamer-client-node');
  const client = new ls.LightstreamerClient(`http://${address}`, 'TWO');
  client.connectionOptions.setForcedTransport(transport);
  const events = new Events();
  const seen = { rows: new Map(), errors: [], lost: 0, subscribed: false, subscriptions: null };
  const table = new ls.Subscription('COMMAND', ['table'], ['key', 'command', 'qty']);
  table.setRequestedSnapshot('yes');
  table.setCommandSecondLevelFields(['price']);
  table.addListener({
    onSubscription: events.on(() => { seen.subscribed = true; }),
    onSubscriptionError: events.on((code, text) => seen.errors.push(`${code} ${text}`)),
    onCommandSecondLevelSubscriptionError: events.on((code, text, key) => seen.errors.push(`${code} ${text} of ${key}`)),
    onItemLostUpdates: events.on((name, position, lost) => { seen.lost += lost; }),
    onCommandSecondLevelItemLostUpdates: events.on((lost) => { seen.lost += lost; }),
    onItemUpdate: events.on((update) => {
      const [key, command] = [update.getValue('key'), update.getValue('command')];
      check(command === 'ADD' || seen.rows.has(key), `${command} of ${key}, which is not there`);
      if (command === 'DELETE') seen.rows.delete(key);
      else seen.rows.set(key, { qty: update.getValue('qty'), price: update.getValue('price') });
    }),
  });
  const status = new ls.Subscription('MERGE', ['session'], ['subscriptions']);
  status.setDataAdapter('STATUS');
  status.setRequestedSnapshot('yes');
  status.addListener({ onItemUpdate: events.on((update) => { seen.subscriptions = Number(update.getValue('subscriptions')); }) });
  client.addListener({ onServerError: events.on((code, text) => seen.errors.push(`${code} ${text}`)) });
  client.subscribe(table);
  client.subscribe(status);
  client.connect();
  return { client, events, seen };
}

describe('two-level push', () => {
  for (const transport of ['WS-STREAMING', 'HTTP-STREAMING', 'WS-POLLING', 'HTTP-POLLING']) {
    test(`hundreds of rows come and go at once, ${transport}`, async () => {
      const feed = await startLineFeed('TWO', { data: STATUS });
      const { client, events, seen } = startClient(feed.address, transport);
      try {
        const rows = new Map();
        const row = (key, command, qty) => ['table', { key, command, qty }];
        const price = (key, value) => {
          if (rows.has(key)) rows.get(key).price = value;
          return [key, { price: value }];
        };
        const add = (key, qty) => {
          rows.set(key, { qty, price: rows.get(key)?.price });
          return row(key, 'ADD', qty);
        };
        const remove = (key) => {
          rows.delete(key);
          return row(key, 'DELETE', null);
        };
        const same = () => seen.rows.size === rows.size && [...rows].every(([key, { qty, price: wanted }]) =>
          seen.rows.get(key)?.qty === qty && seen.rows.get(key)?.price === wanted);
        const settled = (what) => events.until(
          () => seen.errors.length > 0 || (same() && seen.subscriptions === rows.size + OWN_SUBSCRIPTIONS),
          () => `${what}: ${rows.size} rows; the client has ${seen.rows.size}, the server ${seen.subscriptions} subscriptions`);

        await events.until(() => seen.subscribed, 'the table');
        // The table may be subscribed before the feed has heard so, and begins with the last line then: with a single row that
        // is all of it.
        const first = keys(0, ROWS);
        feed.publishAll([add(first[0], '1'), price(first[0], `first of ${first[0]}`)]);
        await settled('a row');
        feed.publishAll(first.slice(1).flatMap((key) => [add(key, '1'), price(key, `first of ${key}`)]));
        await settled('all rows at once');

        feed.publishAll(first.map((key) => price(key, `second of ${key}`)));
        await settled('new prices of all');

        // Half of them go and as many come in the same moment; some come back at once.
        const [gone, come] = [keys(0, ROWS / 2), keys(ROWS, 1.5 * ROWS)];
        feed.publishAll([
          ...gone.map(remove),
          ...come.flatMap((key) => [price(key, `first of ${key}`), add(key, '2')]),
          ...come.map((key) => price(key, `second of ${key}`)),
          ...gone.slice(0, 50).flatMap((key) => [add(key, '3'), price(key, `third of ${key}`)]),
        ]);
        await settled('half of the rows exchanged');

        // A row that flickers is subscribed to and left again and again.
        for (let round = 0; round < 10; round++) {
          feed.publishAll(come.map(remove));
          feed.publishAll(come.flatMap((key) => [add(key, `${round}`), price(key, `${round} of ${key}`)]));
        }
        await settled('rows that flicker');

        feed.publishAll([...rows.keys()].map(remove));
        await settled('no row is left');
        assert.deepEqual(seen.errors, []);
        assert.equal(seen.lost, 0);
      } finally {
        client.disconnect();
        await feed.stop();
      }
    });
  }
});
