// A TCP proxy that only listens: what a client really sent, and what it was sent, as text.

import net from 'node:net';

/** Starts a tap in front of `upstream` ("host:port"): `{ address, port, sent, received, close }`, texts as functions. */
export async function startTap(upstream) {
  const [host, port] = upstream.split(':');
  const sockets = new Set();
  let sent = '';
  let received = '';
  const proxy = net.createServer((client) => {
    const server = net.connect(Number(port), host);
    const close = () => { client.destroy(); server.destroy(); };
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', close);
      socket.on('close', () => { sockets.delete(socket); close(); });
    }
    const frames = new Frames();
    client.on('data', (data) => { sent += frames.text(data); });
    server.on('data', (data) => { received += data.toString('latin1'); });
    client.pipe(server).pipe(client);
  });
  await new Promise((ready) => proxy.listen(0, '127.0.0.1', ready));
  const listening = proxy.address().port;
  return {
    address: `127.0.0.1:${listening}`,
    port: listening,
    sent: () => sent,
    received: () => received,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => proxy.close(closed));
    },
  };
}

/** Takes the mask off what a client sends over WebSocket, and leaves HTTP as it is. */
class Frames {
  #bytes = Buffer.alloc(0);
  #webSocket = false;

  text(data) {
    this.#bytes = Buffer.concat([this.#bytes, data]);
    let text = '';
    if (!this.#webSocket) {
      const end = this.#bytes.indexOf('\r\n\r\n');
      const head = this.#bytes.toString('latin1', 0, end + 4);
      this.#webSocket = end >= 0 && /^GET .*\r\nUpgrade: *websocket/is.test(head);
      const length = this.#webSocket ? end + 4 : this.#bytes.length;
      text += this.#bytes.toString('latin1', 0, length);
      this.#bytes = this.#bytes.subarray(length);
    }
    while (this.#webSocket) {
      const frame = unmask(this.#bytes);
      if (!frame) break;
      text += `${frame.text}\n`;
      this.#bytes = this.#bytes.subarray(frame.bytes);
    }
    return text;
  }
}

/** The first frame, if it is there as a whole. Nothing these clients send is longer than 64 KiB. */
function unmask(bytes) {
  if (bytes.length < 6) return null;
  let length = bytes[1] & 0x7f;
  let at = 2;
  if (length === 126) {
    length = bytes.readUInt16BE(2);
    at = 4;
  }
  if (bytes.length < at + 4 + length) return null;
  const mask = bytes.subarray(at, at + 4);
  const text = Buffer.from(bytes.subarray(at + 4, at + 4 + length).map((byte, i) => byte ^ mask[i % 4])).toString('latin1');
  return { text, bytes: at + 4 + length };
}
