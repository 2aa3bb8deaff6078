// Data adapters: each SDK on the connections that it wants, start order, loss and return, credentials.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { bounded } from '../peers/support/server.mjs';
import { WAIT_MS_MAX, connect, startRemote, startServer, subscribe } from './support.mjs';

const ODD = { bar: 'a|b', plus: '1+1', percent: '100%', hash: '#', dollar: '$', empty: '', null: null, text: 'é € 😀', lines: 'a\r\nb' };

const SDKS = {
  'Python SDK, one connection': { program: 'data.py', ports: ['R.FEED'] },
  'Node SDK, two connections': { program: 'data.cjs', ports: ['R.FEED', 'R.FEED.notify'], notify: true },
};

function config({ notify }, more = '') {
  return `
[[adapter_sets]]
name = "R"
[[adapter_sets.data]]
name = "FEED"
kind = "remote"
[adapter_sets.data.remote]
address = "127.0.0.1:0"
${notify ? 'notify_address = "127.0.0.1:0"' : ''}
recovery_delay = "0s"
status_item = "status"
params = { "remote:greeting" = "hello world" }
${more}`;
}

for (const [name, sdk] of Object.entries(SDKS)) {
  const start = (server, ...args) => startRemote(sdk.program, ...sdk.ports.map(server.port), ...args);

  describe(name, () => {
    let server;
    let remote;
    let client;
    before(async () => {
      server = await startServer(config(sdk));
      remote = start(server);
      client = await connect(server, 'R');
    });
    after(async () => {
      await client?.disconnect();
      await server?.stop();
      // Told to close, or its connection gone, its process ends or does not, as the SDK has it.
      await remote?.kill();
    });

    test('init gets its parameters', async () => {
      const init = await remote.said('init');
      for (const text of ['remote:greeting', 'hello world', 'adapters_conf.id', 'data_provider.name', 'FEED', 'server.instance_id', 'proxy.instance_id']) {
        assert.ok(init.includes(text), init);
      }
    });

    test('a snapshot, then updates', async () => {
      const seen = subscribe(client, { adapter: 'FEED', items: ['tick-a'], fields: ['n', 'run'] });
      await seen.until(({ updates }) => updates.length >= 20, '20 updates');
      const [first, ...rest] = seen.updates;
      assert.deepEqual([first.snapshot, first.n], [true, '0']);
      assert.ok(rest.every(({ snapshot, run }) => !snapshot && run === first.run));
      assert.deepEqual(rest.map(({ n }) => Number(n)), rest.map((_, index) => Number(rest[0].n) + index));
      client.client.unsubscribe(seen.subscription);
      await seen.until(({ active }) => active === false, 'unsubscribed');
    });

    test('values that encodings stumble over', async () => {
      const seen = subscribe(client, { adapter: 'FEED', items: ['odd'], fields: [...Object.keys(ODD), 'bytes'] });
      await seen.until(({ updates }) => updates.at(-1)?.bytes, 'the last update');
      // Whether it comes with the snapshot depends on who was faster.
      const { item, snapshot, ...values } = seen.updates.at(-1);
      assert.deepEqual(values, { ...ODD, bytes: 'aé' });
    });

    test('a refused item has no data, and others are not hurt', async () => {
      const seen = subscribe(client, { adapter: 'FEED', items: ['bad', 'tick-b'], fields: ['n'] });
      await seen.until(({ updates }) => updates.filter(({ item }) => item === 'tick-b').length >= 5, 'five updates');
      await server.logged('bad: No such item');
      assert.ok(seen.updates.every(({ item }) => item === 'tick-b'));
      assert.deepEqual(seen.errors, []);
    });

    test('the status item, and the return of a remote that was killed', async () => {
      const status = subscribe(client, { adapter: 'FEED', items: ['status'], fields: ['status'] });
      const ticks = subscribe(client, { adapter: 'FEED', items: ['tick-c'], fields: ['n', 'run'] });
      await ticks.until(({ updates }) => updates.length >= 5, 'five updates');
      await status.until(({ updates }) => updates.at(-1)?.status === 'connected', 'connected');
      const { run } = ticks.updates.at(-1);
      await remote.kill();
      await status.until(({ updates }) => updates.at(-1)?.status === 'reconnecting', 'reconnecting');
      const late = subscribe(client, { adapter: 'FEED', items: ['tick-late'], fields: ['n'] });
      await late.until(({ active }) => active, 'a subscription without the remote');
      remote = start(server);
      await status.until(({ updates }) => updates.at(-1)?.status === 'connected', 'connected again');
      await ticks.until(({ updates }) => updates.at(-1).run !== run, 'an update of the new remote');
      await late.until(({ updates }) => updates.length >= 5, 'updates of what was subscribed to meanwhile');
    });

    test('a second remote is turned away, and the first is not hurt', async () => {
      const second = start(server);
      await second.events.until(() => second.code !== undefined || /Error|error/.test(second.log), 'a clear failure');
      await second.kill();
      const seen = subscribe(client, { adapter: 'FEED', items: ['tick-d'], fields: ['n'] });
      await seen.until(({ updates }) => updates.length >= 5, 'five updates');
    });
  });

  test(`${name}: wrong credentials are refused, right ones let in`, async () => {
    const server = await startServer(config(sdk, 'credentials = [["ruser", "r p+w"]]'));
    const wrong = start(server, 'ruser', 'nonsense');
    await server.logged('wrong credentials');
    await wrong.kill();
    const right = start(server, 'ruser', 'r p+w');
    await right.said('init');
    const client = await connect(server, 'R');
    const seen = subscribe(client, { adapter: 'FEED', items: ['tick-a'], fields: ['n'] });
    await seen.until(({ updates }) => updates.length >= 5, 'five updates');
    assert.ok(!server.log.includes('r p+w') && !server.log.includes('nonsense'), 'a password in the log');
    await client.disconnect();
    await server.stop();
    await right.kill();
  });
}

test('on_loss = "stop" ends the server', async () => {
  // Otherwise the start would wait for the remote, whose port is read when clients can connect.
  const server = await startServer(config(SDKS['Python SDK, one connection'], 'on_loss = "stop"\nstart_wait = "0s"'));
  const remote = startRemote('data.py', server.port('R.FEED'));
  await server.logged('a remote data adapter is there'); // before that, its end would not be a loss
  await remote.kill();
  assert.equal(await bounded(server.exited, WAIT_MS_MAX, 'the server did not end'), 1, server.log);
});
