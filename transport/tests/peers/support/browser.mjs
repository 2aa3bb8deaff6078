// Headless Chromium, and a page on an origin of its own that runs the official web client.

import { readFileSync, readdirSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

const HERE = dirname(fileURLToPath(import.meta.url));
const CLIENTS = join(HERE, '../clients');
// The packages' own ES modules, found by name and not by a path inside node_modules.
const MODULES = {
  9: join(dirname(createRequire(import.meta.url).resolve('lightstreamer-client-web')), 'lightstreamer-core.esm.js'),
  8: join(dirname(createRequire(import.meta.url).resolve('lightstreamer-client-web-8')), 'lightstreamer-core.esm.js'),
};

/** A browser with a fresh profile that talks to nobody but the pages it is given. */
export function launchBrowser(executablePath) {
  return chromium.launch({
    executablePath,
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
}

const HTML = `<!doctype html><meta charset="utf-8"><title>web client</title><script type="module">
import * as ls from '/client.js';
import { runCase } from '/cases.mjs';
import { followCounter } from '/counter.mjs';
window.runCase = (name, options) => runCase(name, { ls, ...options });
// takeReports is a function that the test gives to the page. A call for each report would be more than a busy browser
// gets through.
let reports = [];
window.followCounter = (which, options) => {
  followCounter({ ls, ...options }, (kind, value) => reports.push([which, kind, value]));
};
setInterval(() => {
  if (reports.length > 0) window.takeReports(reports);
  reports = [];
}, 50);
</script>`;

/**
 * Serves a generation of the client from another origin than the server's, as an application's web server would. Each
 * page has a browser profile of its own: a browser opens six connections to a server for one profile, and streams over
 * HTTP keep one each.
 */
export async function serveClientPage(browser, generation = 9, report = () => {}) {
  const files = {
    '/': ['text/html', HTML],
    '/client.js': ['text/javascript', readFileSync(MODULES[generation])],
  };
  for (const name of readdirSync(CLIENTS).filter((file) => file.endsWith('.mjs') && !file.startsWith('node_'))) {
    files[`/${name}`] = ['text/javascript', readFileSync(join(CLIENTS, name))];
  }
  const web = http.createServer((request, response) => {
    const [type, body] = files[request.url] ?? [];
    response.writeHead(body ? 200 : 404, { 'Content-Type': `${type ?? 'text/plain'}; charset=utf-8` });
    response.end(body);
  });
  await new Promise((done) => web.listen(0, '127.0.0.1', done));
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.exposeFunction('takeReports', (reports) => reports.forEach((one) => report(...one)));
  await page.goto(`http://127.0.0.1:${web.address().port}/`);
  await page.waitForFunction(() => typeof window.runCase === 'function');
  return {
    addCookie: (url) => context.addCookies([{ name: 'peer', value: 'brightwire', url }]),
    follow: (which, options) => page.evaluate(([w, o]) => window.followCounter(w, o), [which, options]),
    run: (name, options) => page.evaluate(([n, o]) => window.runCase(n, o), [name, options]),
    async close() {
      await context.close();
      web.closeAllConnections();
      await new Promise((done) => web.close(done));
    },
  };
}
