// A remote data adapter with the official Node SDK, unmodified: node data.cjs PORT NOTIFY_PORT [USER PASSWORD].
// The items are those of data.py.
const net = require('net');
const { DataProvider } = require('lightstreamer-adapter');

const [port, notifyPort, user, password] = process.argv.slice(2);
const ODD = { bar: 'a|b', plus: '1+1', percent: '100%', hash: '#', dollar: '$', empty: '', null: null, text: 'é € 😀', lines: 'a\r\nb' };
const timers = new Map();

const streams = [port, notifyPort].map((each) => net.createConnection(Number(each), '127.0.0.1'));
// The application decides what the end of a connection means: here, the end of the process, as with the other SDKs.
for (const stream of streams) stream.on('close', () => process.exit(1)).on('error', () => process.exit(1));
const provider = new DataProvider(...streams, (item) => item !== 'silent', user && { user, password });

provider.on('init', (message, response) => {
  console.log('init', JSON.stringify(message.parameters ?? message));
  response.success();
});
provider.on('subscribe', (item, response) => {
  console.log('subscribe', item);
  if (item === 'bad') return response.error('No such item', 'subscription');
  response.success();
  if (item === 'odd') {
    provider.update('odd', true, ODD);
    provider.endOfSnapshot('odd');
    provider.update('odd', false, { bytes: 'aé' });
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
console.log('started');
