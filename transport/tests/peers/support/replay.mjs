// Replays of quote files: a client sees the file's quotes, in the file's order, and ends with the last ones -
// every quote that it is fast enough for, and a few of them when it asked for a low frequency.

import assert from 'node:assert/strict';
import { copyFileSync, appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { collect } from '../clients/recorder.mjs';
import { ROOT } from './server.mjs';

const ADAPTER = 'REPLAY';
const WORK = join(ROOT, 'target/peers-replay');

/** The replays to test: a generated file that is always there, and real data if BRIGHTWIRE_DATA has it. */
export function prepareReplays() {
  mkdirSync(WORK, { recursive: true });
  const generated = join(WORK, 'generated.csv');
  writeFileSync(generated, generate());
  return [
    {
      name: 'generated file by its times', items: ['EUR/USD', 'USD/JPY'], fields: ['bid', 'ask'],
      file: withEnd(generated), options: ['--speed', '10'],
    },
    {
      name: 'generated file at a rate, client limited to 2 per second', items: ['EUR/USD'], fields: ['bid', 'ask'], frequency: 2,
      file: withEnd(generated), options: ['--rate', '500'],
    },
    {
      name: 'fx-ticks.csv by its times', items: ['EUR/USD', 'USD/JPY'], fields: ['bid', 'ask'],
      ...real('fx-ticks.csv'), options: ['--speed', '600'], // six hours in 36 seconds
    },
    {
      name: 'aapl-top-of-book.csv at a rate, client limited to 2 per second', items: ['AAPL'],
      fields: ['bid', 'bid_quantity', 'ask', 'ask_quantity'], frequency: 2,
      ...real('aapl-top-of-book.csv'), options: ['--rate', '20000'],
    },
  ];
}

function real(name) {
  const directory = process.env.BRIGHTWIRE_DATA;
  if (!directory) return { skip: 'BRIGHTWIRE_DATA is not set (optional real market data)' };
  const file = join(directory, name);
  if (!existsSync(file)) return { skip: `there is no ${file} (optional real market data)` };
  const copy = join(WORK, name);
  copyFileSync(file, copy);
  return { file: withEnd(copy) };
}

/** Two random walks over 20 s of file time, the same in each run. */
function generate() {
  const lines = ['time_ms,item,bid,ask'];
  let state = 42; // a linear congruential generator: only has to be the same everywhere
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  const mid = { 'EUR/USD': 1.12, 'USD/JPY': 86.7 };
  for (let i = 0; i < 2000; i++) {
    const item = random() < 0.7 ? 'EUR/USD' : 'USD/JPY';
    mid[item] *= 1 + (random() - 0.5) / 1000;
    lines.push(`${i * 10},${item},${(mid[item] * 0.9999).toFixed(5)},${(mid[item] * 1.0001).toFixed(5)}`);
  }
  return `${lines.join('\n')}\n`;
}

/**
 * Appends to the copy one quote for each item that occurs nowhere else, so that its arrival means the end
 * of the file: the last quote of a real file may have been seen before.
 */
function withEnd(file) {
  const { header, rows } = readQuotes(file);
  const text = readFileSync(file, 'utf8');
  const time = header.indexOf('time_ms');
  const end = [...new Set(rows.map((row) => row.item))].map((item) => header.map((column, i) => {
    if (column === 'item') return item;
    return i === time ? Number(rows.at(-1).time_ms) + 1 : '0.000001';
  }).join(','));
  if (!rows.at(-1)[header.at(-1)].startsWith('0.000001')) {
    appendFileSync(file, `${text.endsWith('\n') ? '' : '\n'}${end.join('\n')}\n`);
  }
  return file;
}

// Plain comma-separated values: none of these files quotes anything.
function readQuotes(file) {
  const [head, ...lines] = readFileSync(file, 'utf8').trim().split(/\r?\n/);
  const header = head.split(',');
  const rows = lines.map((line) => Object.fromEntries(line.split(',').map((value, i) => [header[i], value])));
  return { header, rows };
}

async function play(env, { file, items, fields, frequency }) {
  const { rows } = readQuotes(file);
  const quotes = new Map(items.map((item) => [item, rows.filter((row) => row.item === item).map((row) => fields.map((field) => row[field]))]));
  const last = (item) => String(quotes.get(item).at(-1));
  const updates = await collect(env, {
    items, fields, adapter: ADAPTER, frequency,
    done: (seen) => items.every((item) => String(seen.get(item)) === last(item)),
  });
  for (const item of items) {
    // Before the item's first quote its state is empty, which is a legal snapshot.
    const seen = updates.filter((update) => update.item === item && update.values.some((value) => value !== null));
    let position = 0;
    for (const { values } of seen) {
      const found = quotes.get(item).findIndex((quote, i) => i >= position && String(quote) === String(values));
      assert.ok(found >= 0, `${item}: ${values} is not among the quotes from row ${position} on`);
      position = found; // the same row may come again: an update without a change is legal
    }
    assert.equal(String(seen.at(-1).values), last(item));
  }
  return { updates, quotes };
}

/** A client without a limit gets a good part of all quotes. */
export async function fullSpeedCase(env, replay, t) {
  const { updates, quotes } = await play(env, replay);
  const total = [...quotes.values()].reduce((sum, list) => sum + list.length, 0);
  t.diagnostic(`${updates.length} updates of ${total} quotes`);
  // No exact figure: a busy machine may conflate. Fewer than a tenth would mean that something else limits.
  assert.ok(updates.length >= total / 10, `only ${updates.length} updates of ${total} quotes`);
}

/** A client with a limit gets a few, and still the last one. */
export async function conflatedCase(env, replay, t) {
  const { updates, quotes } = await play(env, replay);
  const seconds = (updates.at(-1).atMs - updates[0].atMs) / 1000;
  t.diagnostic(`${updates.length} updates in ${seconds.toFixed(1)} s of ${quotes.get(replay.items[0]).length} quotes`);
  // An upper bound that lateness cannot break: the server may send no more than this in the time.
  const most = replay.frequency * seconds * replay.items.length + 2;
  assert.ok(updates.length <= most, `${updates.length} updates in ${seconds} s, more than ${most}`);
}
