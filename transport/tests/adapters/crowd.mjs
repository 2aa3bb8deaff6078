// Ten thousand items asked for at once: each SDK is asked for all of them before it has answered the first, and a client
// gets the snapshot of each, once. Their names together are more than a request may have by default.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SDKS, connect, remoteFeed, startRemote, startServer, subscribe } from './support.mjs';

const ITEMS = 10_000;

for (const [name, sdk] of Object.entries(SDKS)) {
  test(`${name}: the snapshots of ${ITEMS} items at once`, async () => {
    const server = await startServer(remoteFeed(sdk, '', 'request_limit = "200000B"'));
    const remote = startRemote(sdk.program, ...sdk.ports.map(server.port));
    await server.logged('a remote data adapter is there');
    const client = await connect(server, 'R');
    const items = Array.from({ length: ITEMS }, (_, index) => `still-${index}`);
    const began = performance.now();
    const seen = subscribe(client, { adapter: 'FEED', items, fields: ['name'] });
    await seen.until(({ updates }) => updates.length >= ITEMS, 'all snapshots');
    console.log(`${name}: ${ITEMS} snapshots in ${Math.round(performance.now() - began)} ms`);
    assert.deepEqual(seen.updates.map(({ name }) => name).sort(), items.toSorted());
    assert.ok(seen.updates.every(({ item, name, snapshot }) => snapshot && item === name));
    client.client.unsubscribe(seen.subscription);
    await remote.events.until(() => remote.lines.filter((line) => line.startsWith('unsubscribe')).length === ITEMS, 'all unsubscriptions');
    await client.disconnect();
    await server.stop();
    await remote.kill();
  });
}

test('a request above the limit fails alone', async () => {
  const server = await startServer(`
[[adapter_sets]]
name = "R"
[[adapter_sets.data]]
name = "FEED"
kind = "demo"`);
  const client = await connect(server, 'R');
  const items = Array.from({ length: ITEMS }, (_, index) => `still-${index}`);
  const tooLong = subscribe(client, { adapter: 'FEED', items, fields: ['name'] });
  await tooLong.until(({ errors }) => errors.length, 'a refusal');
  assert.equal(tooLong.errors[0].code, 68);
  const seen = subscribe(client, { adapter: 'FEED', items: ['item1'], fields: ['last_price'] });
  await seen.until(({ updates }) => updates.length, 'an update');
  assert.deepEqual(client.statuses.filter((status) => status.includes('RECOVERY')), []);
  await client.disconnect();
  await server.stop();
});
