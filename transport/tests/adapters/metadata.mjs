// Metadata adapters: each callback and each exception, as clients see them.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { certificates, connect, startRemote, startServer, subscribe } from './support.mjs';

const CONFIG = `
[[adapter_sets]]
name = "R"
metadata = "remote"
[adapter_sets.remote]
address = "127.0.0.1:0"
recovery_delay = "0s"
[[adapter_sets.data]]
name = "DEFAULT"
kind = "demo"
rate = 1000.0
`;
const FIELDS = ['stock_name', 'last_price'];

for (const [name, program] of Object.entries({ 'Python SDK': 'metadata.py', 'Node SDK': 'metadata.cjs' })) {
  describe(`metadata, ${name}`, () => {
    let server;
    let remote;
    before(async () => {
      server = await startServer(CONFIG);
      remote = startRemote(program, server.port('R'));
      await remote.said('init');
      await server.logged('a remote metadata adapter is there');
    });
    after(async () => {
      await server?.stop();
      await remote?.kill();
    });

    test('a session with its user, its subscription and its end', async () => {
      const client = await connect(server, 'R', { user: 'al é|', password: 'p w+%' });
      assert.equal(await remote.said('user al é|'), `user al é| p w+% ${server.address('web')} websocket`);
      const opened = await remote.said('session al é|');
      const [, id] = /session al é\| (S\S+) 127\.0\.0\.1 web nodejs_client/.exec(opened) ?? assert.fail(opened);
      const seen = subscribe(client, { items: ['item1', 'item2'], fields: FIELDS });
      await seen.until(({ updates }) => updates.length >= 10, 'ten updates');
      const table = await remote.said(`table ${id}`);
      assert.match(table, / 1 MERGE item1 item2 stock_name last_price 1 2/);
      client.client.unsubscribe(seen.subscription);
      const closed = await remote.said(`table-closed ${id}`);
      assert.ok(closed.endsWith('item1 item2'), closed);
      const second = subscribe(client, { items: ['item3'], fields: FIELDS });
      await second.until(({ updates }) => updates.length, 'an update');
      await client.disconnect();
      await remote.said(`closed ${id}`);
      const ends = remote.lines.filter((line) => line.includes(`closed ${id}`)).map((line) => line.split(' ')[0]);
      assert.deepEqual(ends, ['table-closed', 'table-closed', 'closed'], 'the session after its subscriptions');
    });

    test('users who are refused', async () => {
      for (const [user, code, message] of [
        ['denied', 1, 'User/password check failed'],
        ['broke', -7, 'please pay é'],
        ['broken', 66, 'Metadata Adapter error'],
        ['nosession', -8, 'not now'],
        ['unannounced', 66, 'Metadata Adapter error'],
      ]) {
        const { errors } = await connect(server, 'R', { user });
        assert.deepEqual(errors, [{ code, message }], user);
      }
    });

    test('subscriptions that are refused', async () => {
      const client = await connect(server, 'R', { user: 'dan' });
      for (const [items, fields, mode, code, message, options] of [
        [['badgroup'], FIELDS, 'MERGE', 21],
        [['brokengroup'], FIELDS, 'MERGE', 66],
        [['item1'], ['badschema'], 'MERGE', 23],
        [['item1'], ['brokenschema'], 'MERGE', 66],
        [['rawonly'], FIELDS, 'MERGE', 24],
        [['notforyou'], FIELDS, 'MERGE', 24],
        [['refused'], FIELDS, 'MERGE', -4, 'not for you'],
        [['unnotified'], FIELDS, 'MERGE', 66],
        [['slow'], FIELDS, 'MERGE', 26, undefined, { setRequestedMaxFrequency: 'unfiltered' }],
        [['thin'], FIELDS, 'MERGE', 27, undefined, { setRequestedMaxFrequency: 'unfiltered' }],
      ]) {
        const { until, errors } = subscribe(client, { items, fields, mode, ...options });
        await until(() => errors.length, 'a refusal');
        assert.equal(errors[0].code, code, JSON.stringify([items, errors]));
        if (message) assert.equal(errors[0].message, message);
      }
      await client.disconnect();
    });

    test('a snapshot is as long as the adapter says, and buffers are asked about', async () => {
      const client = await connect(server, 'R', { user: 'ben' });
      const seen = subscribe(client, { mode: 'DISTINCT', items: ['trades'], fields: ['stock_name'] });
      await seen.until(({ updates }) => updates.length, 'an update');
      await client.client.unsubscribe(seen.subscription);
      await remote.said('buffer ben trades');
      // The list has had enough events by now for more than three.
      const again = subscribe(client, { mode: 'DISTINCT', items: ['trades'], fields: ['stock_name'] });
      await again.until(({ ended }) => ended.length, 'the end of the snapshot');
      assert.ok(again.updates.filter(({ snapshot }) => snapshot).length <= 3);
      await client.disconnect();
    });

    test('a greatest frequency', async () => {
      const client = await connect(server, 'R', { user: 'cyd' });
      const seen = subscribe(client, { items: ['slow'], fields: FIELDS });
      let granted;
      seen.subscription.addListener({ onRealMaxFrequency: (value) => { granted = value; client.events.happened(); } });
      await seen.until(() => granted, 'a frequency');
      assert.equal(Number(granted), 2);
      await client.disconnect();
    });

    test('a greatest bandwidth', async () => {
      const client = await connect(server, 'R', { user: 'narrow' });
      await client.events.until(() => client.client.connectionOptions.getRealMaxBandwidth() !== null, 'a bandwidth');
      assert.equal(Number(client.client.connectionOptions.getRealMaxBandwidth()), 50.5);
      await client.disconnect();
    });

    test('messages: taken, refused and failed', async () => {
      const client = await connect(server, 'R', { user: 'dan' });
      const send = (text) => new Promise((done) => client.client.sendMessage(text, 'sequence', 5000, {
        onProcessed: (_, response) => done(['processed', response]),
        onDeny: (_, code, message) => done(['denied', code, message]),
        onError: () => done(['error']),
        onDiscarded: () => done(['discarded']),
        onAbort: () => done(['aborted']),
      }));
      assert.equal((await send('hello + wörld 100%|'))[0], 'processed');
      await remote.said('message dan hello + wörld 100%|');
      assert.deepEqual(await send('refuse'), ['denied', -1, 'not that']);
      assert.deepEqual(await send('fail'), ['error']);
      assert.deepEqual(await send('crash'), ['error']);
      await client.disconnect();
    });

    test('a session that is in the way of a new one is closed', async () => {
      const first = await connect(server, 'R', { user: 'single' });
      const second = await connect(server, 'R', { user: 'single' });
      await first.events.until(() => first.errors.length, 'the end of the first session');
      assert.equal(first.errors[0].code, 35);
      assert.equal(second.errors.length, 0);
      await second.disconnect();
    });

    test('without the remote: old sessions live, new ones wait for its return', async () => {
      const old = await connect(server, 'R', { user: 'eve' });
      const seen = subscribe(old, { items: ['item1'], fields: FIELDS });
      await seen.until(({ updates }) => updates.length, 'an update');
      await remote.kill();
      await server.logged('the remote metadata adapter is lost');
      const before = seen.updates.length;
      await seen.until(({ updates }) => updates.length > before + 5, 'updates without the metadata adapter');
      const refused = subscribe(old, { items: ['item2'], fields: FIELDS });
      await refused.until(({ errors }) => errors.length, 'a refusal');
      assert.equal(refused.errors[0].code, 66);
      const late = connect(server, 'R', { user: 'late' }); // told to try again
      remote = startRemote(program, server.port('R'));
      const session = await late;
      assert.deepEqual(session.errors, []);
      await session.disconnect();
      await old.disconnect();
    });
  });
}

for (const [name, program] of Object.entries({ 'Python SDK': 'metadata.py', 'Node SDK': 'metadata.cjs' })) {
  test(`metadata, ${name}: an init that fails`, async () => {
    const server = await startServer(CONFIG.replace('recovery_delay = "0s"', 'recovery_delay = "0s"\nparams = { fail = "yes" }'));
    const remote = startRemote(program, server.port('R'));
    await server.logged('its init has failed (MetadataProvider): not today');
    await remote.kill();
    await server.stop();
  });

  test(`metadata, ${name}: credentials`, async () => {
    const server = await startServer(CONFIG.replace('recovery_delay = "0s"', 'recovery_delay = "0s"\ncredentials = [["ruser", "r p+w"]]'));
    const wrong = startRemote(program, server.port('R'), 'ruser', 'nonsense');
    await server.logged('wrong credentials');
    await wrong.kill();
    const right = startRemote(program, server.port('R'), 'ruser', 'r p+w');
    await right.said('init');
    const client = await connect(server, 'R', { user: 'fay' });
    assert.deepEqual(client.errors, []);
    await client.disconnect();
    await server.stop();
    await right.kill();
  });

  test(`metadata, ${name}: TLS with credentials, and a certificate that is not trusted`, async () => {
    const { directory, path } = certificates();
    const server = await startServer(CONFIG.replace('recovery_delay = "0s"', `recovery_delay = "0s"
credentials = [["ruser", "r p+w"]]
[adapter_sets.remote.tls]
certificate = "${path('localhost.pem')}"
key = "${path('localhost.key')}"`));
    const start = (password, authority) => startRemote(program, server.port('R'), 'ruser', password, path(authority));
    const distrustful = start('r p+w', 'stranger.pem');
    await server.logged('no TLS comes about');
    await distrustful.kill();
    const wrong = start('nonsense', 'ca.pem');
    await server.logged('wrong credentials');
    await wrong.kill();
    const remote = start('r p+w', 'ca.pem');
    await remote.said('init');
    const { errors } = await connect(server, 'R', { user: 'denied' });
    assert.deepEqual(errors, [{ code: 1, message: 'User/password check failed' }]);
    const client = await connect(server, 'R', { user: 'al é|', password: 'p w+%' });
    assert.equal(await remote.said('user al é|'), `user al é| p w+% ${server.address('web')} websocket`);
    const seen = subscribe(client, { items: ['item1'], fields: FIELDS });
    await seen.until(({ updates }) => updates.length, 'an update');
    await client.disconnect();
    await server.stop();
    await remote.kill();
    rmSync(directory, { recursive: true });
  });
}
