// Two windows on the demo page, one of them limited to one update a second per item and 5 kbit/s. When the feed has come
// to its end, both show the newest prices. Makes the picture of that in the README.

import assert from 'node:assert/strict';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { seeded } from './cutter.mjs';
import { ROOT } from './server.mjs';

const OUT = join(dirname(fileURLToPath(import.meta.url)), '../out');
const STOCKS = [
  'Anduct', 'Barlow Optics', 'Cerulean', 'Dunmore', 'Eastlight', 'Fenwick', 'Garnet', 'Halvorsen', 'Ionia', 'Jasper', 'Kestrel',
  'Lumen', 'Marlow', 'Northgate', 'Orrin', 'Pembroke', 'Quill', 'Rowan', 'Sable', 'Tarn', 'Umber', 'Vesper', 'Wexford', 'Xylem',
  'Yarrow', 'Zephyr', 'Ashby', 'Bramley', 'Corvid', 'Dorset',
];
const ROWS = 4_000;
const RATE_HZ = 400;
// Each window of the picture; small, so that the picture is.
const WINDOW = { width: 600, height: 720 };
const GAP = 12;
// Bounds of waits, not expectations.
const WAIT_MS_MAX = 120_000;

/** A feed of prices that ends; options of a server that replays it, and the last prices. */
export function endingFeed() {
  const random = seeded(7);
  const rows = STOCKS.map(() => { const open = 2 + Math.floor(random() * 9_000) / 100; return { open, low: open, high: open, last: open }; });
  const lines = ['item,stock_name,last_price,pct_change,bid,bid_quantity,ask,ask_quantity,min,max,open_price,ref_price,time,item_status'];
  for (let n = 0; n < ROWS; n++) {
    const i = n < STOCKS.length ? n : Math.floor(random() * STOCKS.length);
    const row = rows[i];
    row.last = Math.max(0.5, row.last * (1 + (random() - 0.5) / 50));
    row.low = Math.min(row.low, row.last);
    row.high = Math.max(row.high, row.last);
    const [change, size] = [((row.last / row.open - 1) * 100).toFixed(2), () => 500 * (1 + Math.floor(random() * 60))];
    const time = new Date(Date.UTC(2026, 0, 5, 9) + n * 1000 / RATE_HZ).toISOString().slice(11, 19);
    lines.push([
      `item${i + 1}`, STOCKS[i], row.last.toFixed(2), change, (row.last - 0.01).toFixed(2), size(), (row.last + 0.01).toFixed(2), size(),
      row.low.toFixed(2), row.high.toFixed(2), row.open.toFixed(2), row.open.toFixed(2), time, 'active',
    ].join(','));
  }
  const directory = join(ROOT, 'target/peers-replay');
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'ending.csv');
  writeFileSync(`${file}.${process.pid}`, `${lines.join('\n')}\n`);
  renameSync(`${file}.${process.pid}`, file); // another run may be reading it
  return { options: ['--replay', file, '--rate', String(RATE_HZ)], prices: rows.map((row) => row.last.toFixed(2)) };
}

export async function checkTwoWindows(browser, address, prices, picture) {
  // A window each: pages behind others are not drawn.
  const contexts = await Promise.all([0, 1].map(() => browser.newContext({ viewport: WINDOW, colorScheme: 'light' })));
  try {
    const [free, limited] = await Promise.all(contexts.map((context) => context.newPage()));
    for (const page of [free, limited]) page.setDefaultTimeout(WAIT_MS_MAX);
    await Promise.all([
      free.goto(`http://${address}/?adapter=REPLAY`),
      limited.goto(`http://${address}/?adapter=REPLAY&frequency=1&bandwidth=5`),
    ]);
    const granted = (page) => Promise.all(['#granted', '#granted-bandwidth'].map((id) => page.textContent(id)));
    await limited.waitForFunction(() => document.querySelector('#granted-bandwidth').textContent === '5 kbit/s');
    await limited.waitForFunction(() => document.querySelector('#granted').textContent === '1 per second');
    await Promise.all([free, limited].map((page) => page.waitForFunction((last) => {
      const cells = [...document.querySelectorAll('#rows td.key')];
      return cells.length === last.length && cells.every((cell, i) => cell.textContent === last[i]);
    }, prices)));
    assert.deepEqual(await granted(free), ['unlimited', 'unlimited']);
    // The counter is drawn once a second.
    const total = async (page) => {
      await page.waitForFunction(() => document.querySelector('#total').textContent !== '0');
      return Number((await page.textContent('#total')).replaceAll(',', ''));
    };
    const [all, some] = [await total(free), await total(limited)];
    assert.ok(some < all, `the limited window got ${some} updates, the other ${all}`);
    mkdirSync(OUT, { recursive: true });
    const images = await Promise.all([free, limited].map((page) => page.screenshot()));
    writeFileSync(join(OUT, picture), await sideBySide(contexts[0], images));
  } finally {
    await Promise.all(contexts.map((context) => context.close()));
  }
}

// In a page of its own: the demo page's policy rightly refuses images from elsewhere.
async function sideBySide(context, images) {
  const page = await context.newPage();
  const url = await page.evaluate(async ([sources, gap]) => {
    const load = async (base64) => createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
    const bitmaps = await Promise.all(sources.map(load));
    const canvas = document.createElement('canvas');
    canvas.width = bitmaps.reduce((width, bitmap) => width + bitmap.width + gap, -gap);
    canvas.height = Math.max(...bitmaps.map((bitmap) => bitmap.height));
    const drawing = canvas.getContext('2d');
    let x = 0;
    for (const bitmap of bitmaps) {
      drawing.drawImage(bitmap, x, 0);
      x += bitmap.width + gap;
    }
    return canvas.toDataURL('image/png');
  }, [images.map((image) => image.toString('base64')), GAP]);
  return Buffer.from(url.slice(url.indexOf(',') + 1), 'base64');
}
