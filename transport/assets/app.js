// The demo page: a table of live values, what arrives per second, and sliders that ask the server for a
// lower frequency or bandwidth, so that conflation can be seen.
//
// Address parameters: ?frequency=1 and ?bandwidth=5 preset the sliders. ?adapter=REPLAY shows the stock list of
// another data adapter, ?adapter=REPLAY&items=EUR/USD,USD/JPY&fields=bid,ask other items in a plain table (also:
// &adapter_set=..., &mode=DISTINCT).

import { TlcpClient } from './tlcp.js';

const FREQUENCIES = [0.2, 0.5, 1, 2, 5, 10, 'unlimited']; // the sliders' positions, left to right
const BANDWIDTHS = [1, 2, 5, 10, 50, 200, 'unlimited'];   // kilobits per second
const FLASH_MS = 500;          // long enough to notice at a glance, short enough for a busy list; tried by eye
const RATE_WINDOW_S = 3;       // the sliding window of the update rate
const SPARK_S = 60;            // the history under it
const ITEMS_MAX = 200;         // rows a page address may ask for: keeps one page from asking for everything

// Columns of the stock list. `hide` names the screen class from which on the column is left out (style.css);
// `flash`: what a change looks like, by default its direction. A size is neither good nor bad, and the
// time changes with every update.
const STOCK_COLUMNS = [
  { field: 'stock_name', title: 'Name', head: true },
  { field: 'last_price', title: 'Last', key: true },
  { field: 'pct_change', title: 'Change', percent: true, flash: 'none' },
  { field: 'bid_quantity', title: 'Bid size', hide: 'middle', quiet: true, flash: 'same' },
  { field: 'bid', title: 'Bid', hide: 'narrow' },
  { field: 'ask', title: 'Ask', hide: 'narrow' },
  { field: 'ask_quantity', title: 'Ask size', hide: 'middle', quiet: true, flash: 'same' },
  { field: 'min', title: 'Low', hide: 'wide', quiet: true },
  { field: 'max', title: 'High', hide: 'wide', quiet: true },
  { field: 'open_price', title: 'Open', hide: 'wide', quiet: true },
  { field: 'ref_price', title: 'Reference', hide: 'wide', quiet: true },
  { field: 'time', title: 'Time', text: true, hide: 'middle', quiet: true, flash: 'none' },
  { field: 'item_status', hidden: true },
];

const element = (id) => document.getElementById(id);

/** What to subscribe to and how to show it, from the page's address. */
function readView(search) {
  const parameters = new URLSearchParams(search);
  const list = (name) => (parameters.get(name) ?? '').split(',').map((word) => word.trim()).filter(Boolean);
  const position = (positions, name) => {
    const index = positions.findIndex((value) => String(value) === parameters.get(name));
    return index < 0 ? positions.length - 1 : index;
  };
  const adapter = parameters.get('adapter') ?? 'QUOTE_ADAPTER';
  const common = {
    adapterSet: parameters.get('adapter_set') ?? 'DEMO',
    adapter,
    mode: parameters.get('mode') ?? 'MERGE',
    frequencyIndex: position(FREQUENCIES, 'frequency'),
    bandwidthIndex: position(BANDWIDTHS, 'bandwidth'),
  };
  if (parameters.has('items')) {
    return {
      ...common,
      title: adapter === 'REPLAY' ? 'Replay' : adapter,
      items: list('items').slice(0, ITEMS_MAX),
      columns: [{ title: 'Item', head: true }, ...list('fields').map((field) => ({ field, title: field }))],
    };
  }
  return {
    ...common,
    title: 'Stock list',
    items: Array.from({ length: 30 }, (_, i) => `item${i + 1}`),
    columns: STOCK_COLUMNS,
  };
}

/** The table. Updates are gathered and drawn once per frame: a screen shows no more than that. */
class Table {
  #columns;
  #fields;
  #rows;
  #dirty = new Map();  // item -> newest values and the fields changed since the last frame
  #flashing = new Map(); // cell -> when its mark goes, oldest first
  #scheduled = false;

  constructor(view) {
    this.#columns = view.columns.filter((column) => !column.hidden);
    this.#fields = view.columns.filter((column) => column.field).map((column) => column.field);
    element('head').replaceChildren(...this.#columns.map((column) => {
      const cell = document.createElement('th');
      cell.scope = 'col';
      cell.textContent = column.title;
      cell.className = cellClass(column);
      return cell;
    }));
    this.#rows = view.items.map((name) => this.#makeRow(name));
    element('rows').replaceChildren(...this.#rows.map((row) => row.element));
  }

  get fields() {
    return this.#fields;
  }

  #makeRow(name) {
    const row = document.createElement('tr');
    const cells = this.#columns.map((column) => {
      const cell = document.createElement(column.head ? 'th' : 'td');
      if (column.head) cell.scope = 'row';
      cell.className = cellClass(column);
      cell.textContent = column.head ? name : '–';
      row.append(cell);
      return cell;
    });
    return { element: row, cells, shown: new Map() };
  }

  update({ item, values, changed, snapshot }) {
    let entry = this.#dirty.get(item);
    if (!entry) this.#dirty.set(item, (entry = { fields: new Set(), values: null, snapshot }));
    entry.values = values;
    changed.forEach((yes, i) => yes && entry.fields.add(i));
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#scheduled = false;
    const untilMs = performance.now() + FLASH_MS;
    for (const [item, entry] of this.#dirty) this.#drawRow(this.#rows[item], entry, untilMs);
    this.#dirty.clear();
  }

  #drawRow(row, { fields, values, snapshot }, untilMs) {
    this.#columns.forEach((column, i) => {
      const index = this.#fields.indexOf(column.field);
      if (index < 0 || !fields.has(index)) return;
      const value = values[index];
      const before = row.shown.get(column.field);
      if (value === before) return; // went away and came back within a frame
      row.shown.set(column.field, value);
      const cell = row.cells[i];
      cell.textContent = format(value, column);
      if (column.percent) cell.dataset.sign = Number(value) > 0 ? '+' : Number(value) < 0 ? '-' : '';
      if (column.head || column.flash === 'none' || snapshot || before === undefined) return;
      cell.dataset.move = column.flash ?? direction(before, value);
      this.#flashing.delete(cell); // to the end: the map stays sorted by time
      this.#flashing.set(cell, untilMs);
    });
    const status = this.#fields.indexOf('item_status');
    if (status >= 0) row.element.toggleAttribute('data-inactive', values[status] === 'inactive');
  }

  /** Takes the mark from cells that had it long enough. */
  fade(nowMs) {
    for (const [cell, untilMs] of this.#flashing) {
      if (untilMs > nowMs) break;
      delete cell.dataset.move;
      this.#flashing.delete(cell);
    }
  }
}

function cellClass({ text, key, quiet, hide }) {
  return [text && 'text', key && 'key', quiet && 'quiet', hide].filter(Boolean).join(' ');
}

function format(value, { percent }) {
  if (value === null || value === '') return '–';
  if (!percent || Number.isNaN(Number(value))) return value;
  return `${Number(value) > 0 ? '+' : ''}${value} %`.replace('-', '−').replace('++', '+');
}

function direction(before, after) {
  const [from, to] = [Number.parseFloat(before), Number.parseFloat(after)];
  // Number() refuses texts such as 12:30:01, which parseFloat would read as 12.
  if (Number.isNaN(Number(before)) || Number.isNaN(Number(after)) || !(from < to || from > to)) return 'same';
  return to > from ? 'up' : 'down';
}

/** Counts per second of the last minute, and the rate over a short sliding window. */
class RateMeter {
  #counts = []; // of whole seconds, oldest first
  #current = 0;
  #second = Math.floor(performance.now() / 1000);
  total = 0;

  count() {
    this.#current++;
    this.total++;
  }

  /** To be called several times a second. True if a second ended since the last call. */
  tick(nowMs) {
    const second = Math.floor(nowMs / 1000);
    const passed = Math.min(second - this.#second, SPARK_S);
    for (let i = 0; i < passed; i++) {
      this.#counts.push(i === 0 ? this.#current : 0); // a sleeping tab skips seconds
      if (this.#counts.length > SPARK_S) this.#counts.shift();
    }
    if (passed > 0) {
      this.#second = second;
      this.#current = 0;
    }
    return passed > 0;
  }

  perSecond() {
    const window = this.#counts.slice(-RATE_WINDOW_S);
    return window.reduce((sum, count) => sum + count, 0) / Math.max(1, window.length);
  }

  /** The history as the `d` of two SVG paths in a box of 240 by 40. */
  paths() {
    const top = Math.max(1, ...this.#counts) * 1.1;
    const x = (i) => (240 - ((this.#counts.length - 1 - i) * 240) / (SPARK_S - 1)).toFixed(1);
    const points = this.#counts.map((count, i) => `${x(i)},${(40 - (count / top) * 38).toFixed(1)}`);
    const line = `M${points.join('L')}`;
    return { line, area: `${line}L240,40L${x(0)},40Z` };
  }
}

function showStatus(status) {
  const text = {
    connecting: 'Connecting',
    streaming: 'Streaming',
    stalled: 'Stalled: the server is silent',
    reconnecting: 'Reconnecting',
    closed: 'Closed',
  }[status.state];
  element('status').dataset.state = status.state;
  element('data').toggleAttribute('data-stale', status.state !== 'streaming'); // old values look old
  if (status.sessionId === null) { // whoever comes next grants anew
    element('granted').textContent = '–';
    element('granted-bandwidth').textContent = '–';
  }
  element('status-text').textContent = text;
  element('toggle').textContent = { reconnecting: 'Retry now', closed: 'Connect' }[status.state] ?? 'Disconnect';
  const troubled = status.reason !== null && status.reason !== 'disconnected';
  // Without the state, so that an alert is not read out again with each try.
  showNotice(troubled ? status.reason[0].toUpperCase() + status.reason.slice(1) : null);
}

function showNotice(text) {
  element('notice').hidden = text === null;
  if (element('notice').textContent !== text) element('notice').textContent = text ?? '';
}

function frequencyText(frequency) {
  if (frequency === 'unlimited') return 'unlimited';
  return `${Number(frequency)} per second`;
}

function bandwidthText(bandwidth) {
  return Number.isNaN(Number(bandwidth)) ? bandwidth : `${Number(bandwidth)} kbit/s`;
}

function ageText(ageMs) {
  if (ageMs < 1000) return 'just now';
  if (ageMs < 60000) return `${Math.floor(ageMs / 1000)} s ago`;
  return `${Math.floor(ageMs / 60000)} min ago`;
}

/** A slider over `positions`, whose choice is shown in words and told to `choose`. */
function makeSlider(id, outputId, positions, index, text, choose) {
  const slider = element(id);
  slider.max = positions.length - 1;
  slider.value = index;
  const wanted = () => positions[Number(slider.value)];
  const show = () => {
    element(outputId).textContent = text(wanted());
    slider.setAttribute('aria-valuetext', text(wanted()));
  };
  slider.addEventListener('input', show);
  // `change` and not `input`: one request when the slider comes to rest.
  slider.addEventListener('change', () => choose(wanted()));
  show();
}

function start() {
  const view = readView(location.search);
  document.title = `${view.title} – Brightwire`;
  element('heading').textContent = view.title;
  element('caption').textContent = `${view.title}: live values`;
  element('subheading').textContent = `${view.items.length} items of ${view.adapter}, ${view.mode} mode`;

  const table = new Table(view);
  const meter = new RateMeter();
  let lastUpdateMs = null;

  const url = new URL('/lightstreamer', location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = '';
  element('address').textContent = url.href;

  const client = new TlcpClient({
    url: url.href,
    adapterSet: view.adapterSet,
    bandwidth: BANDWIDTHS[view.bandwidthIndex],
    onStatus: showStatus,
    onBandwidth: ({ bandwidth }) => { element('granted-bandwidth').textContent = bandwidthText(bandwidth); },
  });
  const subscription = client.subscribe({
    adapter: view.adapter,
    mode: view.mode,
    items: view.items,
    fields: table.fields,
    frequency: FREQUENCIES[view.frequencyIndex],
    onUpdate: (update) => {
      meter.count();
      lastUpdateMs = performance.now();
      table.update(update);
    },
    onConf: ({ frequency, filtered }) => {
      element('granted').textContent = `${frequencyText(frequency)}${filtered ? '' : ', unfiltered'}`;
    },
    onError: ({ code, message }) => showNotice(`The server refused: ${message} (code ${code})`),
    onEnd: () => showNotice('The server ended the subscription.'),
  });

  makeSlider('frequency', 'wanted', FREQUENCIES, view.frequencyIndex, frequencyText, (frequency) =>
    client.setFrequency(subscription, frequency));
  makeSlider('bandwidth', 'wanted-bandwidth', BANDWIDTHS, view.bandwidthIndex, bandwidthText, (kbps) =>
    client.setBandwidth(kbps));

  element('toggle').addEventListener('click', () => {
    const { state } = client.status;
    if (state === 'closed' || state === 'reconnecting') client.connect();
    else client.disconnect();
  });
  // A page that goes away says so, and one that comes back from the browser's cache connects again.
  let leaving = false;
  addEventListener('pagehide', () => {
    leaving = client.status.state !== 'closed';
    client.disconnect();
  });
  addEventListener('pageshow', () => leaving && client.connect());

  setInterval(() => {
    const nowMs = performance.now();
    table.fade(nowMs);
    if (meter.tick(nowMs)) {
      const rate = meter.perSecond();
      element('rate').textContent = rate >= 100 ? Math.round(rate).toLocaleString('en') : rate.toFixed(1);
      const { line, area } = meter.paths();
      element('spark-line').setAttribute('d', line);
      element('spark-area').setAttribute('d', area);
      element('total').textContent = meter.total.toLocaleString('en');
    }
    element('age').textContent = lastUpdateMs === null ? '–' : ageText(nowMs - lastUpdateMs);
    const { retryAtMs } = client.status;
    element('countdown').textContent = retryAtMs === null ? '' : `in ${Math.max(0, Math.ceil((retryAtMs - Date.now()) / 1000))} s`;
  }, 100);

  if (view.items.length === 0 || table.fields.length === 0) {
    client.unsubscribe(subscription);
    showStatus({ state: 'closed', reason: 'the address of this page names no items or no fields, as in ?items=item1,item2&fields=bid,ask', sessionId: null });
    element('toggle').disabled = true;
    return;
  }
  client.connect();
}

start();
