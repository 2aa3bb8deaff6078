// Node `ws` as a fan-out server: clients name their items in their first message, a publisher sends lines `item payload`.
import { createServer } from 'node:net';
import { WebSocketServer } from 'ws';

const byItem = new Map();
const clients = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false, clientTracking: false });
clients.on('connection', (client) => {
  client.once('message', (data) => {
    for (const item of data.toString().split(' ')) {
      if (!byItem.has(item)) byItem.set(item, new Set());
      byItem.get(item).add(client);
      client.on('close', () => byItem.get(item).delete(client));
    }
  });
  client.on('error', () => {});
});
const publisher = createServer((source) => {
  let rest = '';
  source.setEncoding('utf8');
  source.on('error', () => {});
  source.on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      const blank = line.indexOf(' ');
      // Bytes, made once for all: a string would be encoded anew for each client.
      const payload = Buffer.from(line.slice(blank + 1));
      for (const client of byItem.get(line.slice(0, blank)) ?? []) client.send(payload, { binary: false });
    }
  });
});
clients.on('listening', () => {
  publisher.listen(0, '127.0.0.1', () => {
    console.log(`clients ${clients.address().port}`);
    console.log(`publisher ${publisher.address().port}`);
  });
});
