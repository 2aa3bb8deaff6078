// Data adapters: each SDK on the connections that it wants, start order, loss and return, credentials.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { rmSync } from 'node:fs';

import { bounded } from '../peers/support/server.mjs';
import { SDKS, WAIT_MS_MAX, certificates, connect, freePorts, remoteFeed, startRemote, startServer, subscribe } from './support.mjs';

const ODD = { bar: 'a|b', plus: '1+1', percent: '100%', hash: '#', dollar: '$', empty: '', null: null, text: 'é € 😀', lines: 'a\r\nb' };

const config = (sdk, more = '') => remoteFeed(sdk, `
recovery_delay = "0s"
status_item = "status"
params = { "remote:greeting" = "hello world" }
${more}`);

for (const [name, sdk] of Object.entries(SDKS)) {
  const start = (server, ...args) => startRemote(sdk.program, ...sdk.ports.map(server.port), ...args);

  describe(name, () => {
    let server;
    let remote;
    let client;
    before(async () => {
      server = await startServer(config(sdk));
      remote = start(server);
      // Before that, items have no data, and clients are told so.
      await server.logged('a remote data adapter is there');
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
      // On a busy machine some may be merged.
      assert.ok(rest.every(({ n }, index) => index === 0 || Number(n) > Number(rest[index - 1].n)));
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

    test('an item that the adapter fails on, rather than refuse it', async () => {
      subscribe(client, { adapter: 'FEED', items: ['broken'], fields: ['n'] });
      await server.logged('broken: out of order');
    });

    test('DISTINCT: a snapshot of three events, and one more', async () => {
      const seen = subscribe(client, { mode: 'DISTINCT', adapter: 'FEED', items: ['news'], fields: ['headline'] });
      await seen.until(({ ended }) => ended.length, 'the end of the snapshot');
      assert.deepEqual(seen.updates.map(({ headline, snapshot }) => [headline, snapshot]), [['1', true], ['2', true], ['3', true]]);
      subscribe(client, { adapter: 'FEED', items: ['go-news'], fields: ['n'] });
      await seen.until(({ updates }) => updates.length === 4, 'one more event');
      assert.deepEqual([seen.updates[3].headline, seen.updates[3].snapshot], ['4', false]);
    });

    test('COMMAND: rows come, change and go', async () => {
      const fields = ['key', 'command', 'value'];
      const seen = subscribe(client, { mode: 'COMMAND', adapter: 'FEED', items: ['list'], fields });
      const rows = () => seen.updates.map(({ key, command, value }) => `${key} ${command} ${value}`);
      await seen.until(({ ended }) => ended.length, 'the end of the snapshot');
      assert.deepEqual(rows(), ['a ADD 1', 'b ADD 1']);
      subscribe(client, { adapter: 'FEED', items: ['go-list'], fields: ['n'] });
      await seen.until(({ updates }) => updates.length === 5, 'three changes');
      assert.deepEqual(rows().slice(2).sort(), ['a UPDATE 2', 'b DELETE null', 'c ADD 3']);
    });

    test('what is known of an item is cleared', async () => {
      const seen = subscribe(client, { adapter: 'FEED', items: ['cleared'], fields: ['value'] });
      await seen.until(({ updates }) => updates.length, 'a value');
      subscribe(client, { adapter: 'FEED', items: ['go-cleared'], fields: ['n'] });
      await seen.until(({ updates }) => updates.length === 2, 'its end');
      assert.deepEqual(seen.updates.map(({ value }) => value), ['1', null]);
    });

    test('unsubscriptions reach the adapter', async () => {
      const seen = subscribe(client, { adapter: 'FEED', items: ['tick-off'], fields: ['n'] });
      await seen.until(({ updates }) => updates.length, 'an update');
      client.client.unsubscribe(seen.subscription);
      await remote.said('unsubscribe tick-off'); // after sessions.subscription_linger
    });

    test('an adapter that says that it has failed is replaced', async () => {
      for (const [item, message] of [['fatal', 'beyond repair'], ['later', 'worn out']]) {
        // The next process is asked for the item as well, but fails on one of its own number only.
        subscribe(client, { adapter: 'FEED', items: [`${item}-${remote.child.pid}`], fields: ['n'] });
        await server.logged(`it has failed: ${message}`);
        await remote.kill();
        remote = start(server);
        await remote.said('init');
      }
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

for (const [name, sdk] of Object.entries(SDKS)) {
  test(`${name}: an init that fails`, async () => {
    const server = await startServer(config(sdk).replace('"remote:greeting" = "hello world"', 'fail = "yes"'));
    const remote = startRemote(sdk.program, ...sdk.ports.map(server.port));
    await server.logged('its init has failed (DataProvider): not today');
    await remote.kill();
    await server.stop();
  });

  test(`${name}: TLS, and a certificate that is not trusted`, async () => {
    const { directory, path } = certificates();
    const server = await startServer(config(sdk, `[adapter_sets.data.remote.tls]
certificate = ${JSON.stringify(path('localhost.pem'))}
key = ${JSON.stringify(path('localhost.key'))}`));
    const start = (ca) => startRemote(sdk.program, ...sdk.ports.map(server.port), '', '', path(ca));
    const distrustful = start('stranger.pem');
    await server.logged('no TLS comes about');
    await distrustful.kill();
    const remote = start('ca.pem');
    await remote.said('init');
    const client = await connect(server, 'R');
    const seen = subscribe(client, { adapter: 'FEED', items: ['tick-a'], fields: ['n'] });
    await seen.until(({ updates }) => updates.length >= 5, 'five updates');
    await client.disconnect();
    await server.stop();
    await remote.kill();
    rmSync(directory, { recursive: true });
  });

  test(`${name}: started before the server, and by a supervisor again and again`, async () => {
    const ports = await freePorts(2);
    const early = startRemote(sdk.program, ...ports);
    await early.events.until(() => early.code !== undefined || /Error|error/.test(early.log), 'a clear failure');
    await early.kill();
    const [address, notify] = ports.map((port) => `127.0.0.1:${port}`);
    const server = await startServer(config(sdk).replace('127.0.0.1:0', address).replace('127.0.0.1:0', notify));
    const remote = startRemote(sdk.program, ...ports);
    await remote.said('init');
    await server.stop();
    await remote.kill();
  });
}

test('the server connects, whoever is first', async () => {
  const sdk = SDKS['Node SDK, two connections'];
  const listen = (ports) => startRemote(sdk.program, ...ports, { LISTEN: '1' });
  for (const first of ['the remote', 'the server']) {
    const ports = await freePorts(2);
    const [address, notify] = ports.map((port) => `localhost:${port}`);
    let remote = first === 'the remote' ? listen(ports) : undefined;
    await remote?.said('started');
    const connecting = 'connect = true\nconnect_retry = "100ms"';
    const server = await startServer(config(sdk, connecting).replace('127.0.0.1:0', address).replace('127.0.0.1:0', notify));
    if (!remote) {
      await server.logged('cannot connect to');
      remote = listen(ports);
    }
    const client = await connect(server, 'R');
    const seen = subscribe(client, { adapter: 'FEED', items: ['tick-a'], fields: ['n', 'run'] });
    await seen.until(({ updates }) => updates.length >= 5, 'five updates');
    const { run } = seen.updates.at(-1);
    await remote.kill();
    remote = listen(ports);
    await seen.until(({ updates }) => updates.at(-1).run !== run, 'an update of the next remote');
    await client.disconnect();
    await server.stop();
    await remote.kill();
  }
});

test('on_loss = "stop" ends the server', async () => {
  // Otherwise the start would wait for the remote, whose port is read when clients can connect.
  const server = await startServer(config(SDKS['Python SDK, one connection'], 'on_loss = "stop"\nstart_wait = "0s"'));
  const remote = startRemote('data.py', server.port('R.FEED'));
  await server.logged('a remote data adapter is there'); // before that, its end would not be a loss
  await remote.kill();
  assert.equal(await bounded(server.exited, WAIT_MS_MAX, 'the server did not end'), 1, server.log);
});
