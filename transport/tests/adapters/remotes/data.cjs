// A remote data adapter with the official Node SDK, unmodified: node data.cjs PORT NOTIFY_PORT [USER PASSWORD [CA_FILE]].
// The items are those of data.py. With the environment variable LISTEN it listens at these ports and serves whoever
// connects, one after the other.
const { readFileSync } = require('fs');
const net = require('net');
const tls = require('tls');
const { DataProvider } = require('lightstreamer-adapter');

const [port, notifyPort, user, password, caFile] = process.argv.slice(2);
const ODD = { bar: 'a|b', plus: '1+1', percent: '100%', hash: '#', dollar: '$', empty: '', null: null, text: 'é € 😀', lines: 'a\r\nb' };
const LATER = {
  news: [{ headline: '4' }],
  list: [{ key: 'a', command: 'UPDATE', value: '2' }, { key: 'b', command: 'DELETE' }, { key: 'c', command: 'ADD', value: '3' }],
  cleared: [null],
};

function serve(requests, notifications) {
  const timers = new Map();
  const provider = new DataProvider(requests, notifications, (item) => item !== 'silent', user && { user, password });
  provider.on('init', (message, response) => {
    const parameters = message.parameters ?? message;
    console.log('init', JSON.stringify(parameters));
    if ('fail' in parameters) return response.error('not today', 'data');
    response.success();
  });
  provider.on('subscribe', (item, response) => {
    console.log('subscribe', item);
    if (item === 'bad') return response.error('No such item', 'subscription');
    if (item === 'broken') return response.error('out of order');
    response.success();
    if (item === `fatal-${process.pid}`) provider.failure('beyond repair');
    if (item === `later-${process.pid}`) provider.failure('worn out');
    if (item === 'odd') {
      provider.update('odd', true, ODD);
      provider.endOfSnapshot('odd');
      provider.update('odd', false, { bytes: 'aé' });
    }
    if (item === 'news') {
      for (const headline of '123') provider.update('news', true, { headline });
      provider.endOfSnapshot('news');
    }
    if (item === 'list') {
      for (const key of 'ab') provider.update('list', true, { key, command: 'ADD', value: '1' });
      provider.endOfSnapshot('list');
    }
    if (item === 'cleared') {
      provider.update('cleared', true, { value: '1' });
      provider.endOfSnapshot('cleared');
    }
    if (item.startsWith('still-')) {
      provider.update(item, true, { name: item });
      provider.endOfSnapshot(item);
    }
    if (item.startsWith('go-')) {
      const of = item.slice(3);
      for (const event of LATER[of]) event ? provider.update(of, false, event) : provider.clearSnapshot(of);
    }
    if (item.startsWith('tick-')) {
      let count = 0;
      provider.update(item, true, { n: '0', run: String(process.pid) });
      provider.endOfSnapshot(item);
      timers.set(item, setInterval(() => provider.update(item, false, { n: String(++count) }), 5));
    }
  });
  provider.on('unsubscribe', (item, response) => {
    console.log('unsubscribe', item);
    clearInterval(timers.get(item));
    timers.delete(item);
    response.success();
  });
}

if (process.env.LISTEN) {
  const waiting = [[], []];
  const pair = () => { if (waiting.every((queue) => queue.length)) serve(...waiting.map((queue) => queue.shift())); };
  [port, notifyPort].forEach((each, index) => net.createServer((stream) => {
    stream.on('error', () => {});
    waiting[index].push(stream);
    pair();
  }).listen(Number(each), '127.0.0.1'));
} else {
  const connect = (each) => (caFile
    ? tls.connect({ port: Number(each), host: 'localhost', ca: readFileSync(caFile) })
    : net.createConnection(Number(each), '127.0.0.1'));
  const streams = [port, notifyPort].map(connect);
  // The application decides what the end of a connection means: here, the end of the process, as with the other SDKs.
  for (const stream of streams) stream.on('close', () => process.exit(1)).on('error', () => process.exit(1));
  serve(...streams);
}
console.log('started');
