// The servers with adapters of their own that are examples of the package, seen by an official client.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { connect, startExample, subscribe } from './support.mjs';

describe('adapters in Rust', () => {
  test('clock: its snapshot, then a tick each second', async () => {
    const server = await startExample('clock');
    const client = await connect(server, 'DEMO');
    const clock = subscribe(client, { adapter: 'CLOCK', items: ['clock'], fields: ['time', 'seconds'] });
    const calendar = subscribe(client, { adapter: 'CLOCK', items: ['calendar'], fields: ['time'] });
    await clock.until(({ updates }) => updates.length >= 3, 'three ticks');
    assert.deepEqual(clock.updates.slice(0, 3).map(({ snapshot }) => snapshot), [true, false, false]);
    const seconds = clock.updates.map((update) => Number(update.seconds));
    assert.ok(seconds.every((second, index) => index === 0 || second > seconds[index - 1]), String(seconds));
    assert.match(clock.updates[0].time, /^\d\d:\d\d:\d\d$/);
    // What the adapter refuses has no data, and hurts nobody.
    await server.logged('the only item is `clock`');
    assert.ok(calendar.updates.every(({ time }) => time === null));
    await client.disconnect();
    await server.kill();
  });

  test('replay_csv: the rows, round and round', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'brightwire-replay-'));
    const file = join(directory, 'ticks.csv');
    writeFileSync(file, 'item,bid,ask\nA,1,2\nB,10,20\nA,3,4\n');
    const server = await startExample('replay_csv', file);
    const client = await connect(server, 'DEMO');
    const seen = subscribe(client, { mode: 'DISTINCT', adapter: 'REPLAY', items: ['A'], fields: ['bid', 'ask'] });
    await seen.until(({ updates }) => updates.length >= 6, 'six rows');
    const rows = seen.updates.map(({ bid, ask }) => `${bid} ${ask}`);
    assert.ok(rows.every((row, index) => ['1 2', '3 4'].includes(row) && row !== rows[index - 1]), rows.join(', '));
    await client.disconnect();
    await server.kill();
    rmSync(directory, { recursive: true });
  });
});
