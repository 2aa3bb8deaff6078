// uWebSockets.js as a fan-out server, by its own publish and subscribe: clients name their items in their first message, a
// publisher sends lines `item payload`.
import { createServer } from 'node:net';
import uWS from '@trufflesuite/uws-js-unofficial';

const app = uWS.App();
app.ws('/*', {
  compression: uWS.DISABLED,
  maxBackpressure: 16 << 20,
  message: (client, data) => {
    for (const item of Buffer.from(data).toString().split(' ')) client.subscribe(item);
  },
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
      app.publish(line.slice(0, blank), line.slice(blank + 1), false);
    }
  });
});
app.listen('127.0.0.1', 0, (socket) => {
  publisher.listen(0, '127.0.0.1', () => {
    console.log(`clients ${uWS.us_socket_local_port(socket)}`);
    console.log(`publisher ${publisher.address().port}`);
  });
});
