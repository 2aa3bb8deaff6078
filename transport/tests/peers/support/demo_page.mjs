// The embedded demo page as a visitor sees it: prices move, the slider slows them down.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const OUT = join(dirname(fileURLToPath(import.meta.url)), '../out');
const ITEMS = 30;
// A drawn page has many colours (text is smoothed); an empty one has a handful.
const COLOURS_MIN = 50;

export async function checkDemoPage(browser, address, screenshot) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const troubles = []; // scripts refused by the page's own policy show up here too
    const foreign = [];
    page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
    page.on('pageerror', (error) => troubles.push(error.message));
    page.on('request', (request) => request.url().startsWith(`${address}/`) || foreign.push(request.url()));

    const response = await page.goto(`${address}/`);
    assert.equal(response.status(), 200);
    assert.match(response.headers()['content-security-policy'] ?? '', /default-src/);

    await page.waitForSelector('#status[data-state="streaming"]');
    await page.waitForFunction((n) => {
      const cells = [...document.querySelectorAll('#rows td.key')];
      return cells.length === n && cells.every((cell) => /\d/.test(cell.textContent));
    }, ITEMS);
    await moves(page);

    assert.equal(await page.textContent('#granted'), 'unlimited');
    await slide(page, '2 per second');
    await moves(page);
    await slide(page, 'unlimited');

    mkdirSync(OUT, { recursive: true });
    const image = await page.screenshot({ path: join(OUT, screenshot) });
    const colours = await countColours(context, image);
    assert.ok(colours >= COLOURS_MIN, `the screenshot has ${colours} colours only`);

    await page.click('#toggle');
    await page.waitForSelector('#status[data-state="closed"]');
    await page.click('#toggle');
    await page.waitForSelector('#status[data-state="streaming"]');

    await page.goto(`${address}/?frequency=0.5`);
    await page.waitForFunction(() => document.querySelector('#granted').textContent === '0.5 per second');
    assert.deepEqual(troubles, []);
    assert.deepEqual(foreign, [], 'the page asked for something from elsewhere');
  } finally {
    await context.close();
  }
}

/** Waits until some prices are no longer what they were. */
async function moves(page) {
  const prices = () => page.$$eval('#rows td.key', (cells) => cells.map((cell) => cell.textContent));
  const before = await prices();
  await page.waitForFunction((old) => {
    const now = [...document.querySelectorAll('#rows td.key')].map((cell) => cell.textContent);
    return now.filter((price, i) => price !== old[i]).length >= 3;
  }, before);
}

/** Moves the slider with the keyboard until it says `text`, and waits for the server to grant it. */
async function slide(page, text) {
  await page.focus('#frequency');
  await page.keyboard.press('Home');
  for (let step = 0; (await page.textContent('#wanted')) !== text; step++) {
    assert.ok(step < 20, `the slider has no position "${text}"`);
    await page.keyboard.press('ArrowRight');
  }
  await page.waitForFunction((granted) => document.querySelector('#granted').textContent === granted, text);
}

// In a page of its own: the demo page's policy rightly refuses images from elsewhere.
async function countColours(context, image) {
  const page = await context.newPage();
  return page.evaluate(async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const drawing = canvas.getContext('2d');
    drawing.drawImage(bitmap, 0, 0);
    const pixels = new Uint32Array(drawing.getImageData(0, 0, bitmap.width, bitmap.height).data.buffer);
    return new Set(pixels).size;
  }, image.toString('base64'));
}
