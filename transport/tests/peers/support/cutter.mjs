// A TCP proxy that cuts connections: at chosen bytes of the stream, in the middle of a line or of a frame, and in three
// ways. It reads just enough of what passes to tell a stream from the rest.

import net from 'node:net';

/** A small generator (mulberry32): one seed, one sequence of cuts. How they meet the client's timing is not repeatable. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// Half of the cuts come within about 70 bytes of the stream, some after a second or two of it.
const BUDGET_BYTES_MAX = 3000;
// A client whose attempt to recover is cut waits for four seconds before its next one, so these are rare.
const SHARE_IN_RECOVERY = 0.03;
// Only of polls: a client whose request for a stream gets no answer gives that transport up for good.
const SHARE_WITHOUT_ANSWER = 0.2;
// How long the server is left with a connection whose client is gone.
const HALF_OPEN_MS_MAX = 2000;

/**
 * Starts a proxy in front of `upstream` ("host:port"). It cuts `cutsMax` times; `polls` tells whether also before an
 * answer. Returns `{ address, state, reached, close }`. What not every client survives, whoever the server is, can be left out:
 *
 * `answers`: answers that are lost though their request has arrived. `resets`: cuts that take back what the client has not
 * read yet, so that an answer may be lost which was begun. `recoveries`: cuts of the answer to a recovery.
 * `head`: cuts of a creation's answer, and of what comes together with CONOK, with `polls` also of the answer to a recovery
 * and the first poll behind it; without these, `reached` must be called when the client says that it is connected, which it
 * may not yet be though it was sent all of that. `anywhere`: HTTP that ends in the middle of a line.
 */
export async function startCutter(upstream, { random, cutsMax, polls = false, answers = true, resets = true, recoveries = true, head = true, anywhere = true }) {
  const [host, port] = upstream.split(':');
  const sockets = new Set();
  const state = { cuts: 0, kinds: { reset: 0, end: 0, halfOpen: 0 }, places: { stream: 0, recovery: 0, unanswered: 0 } };
  let budget = nextBudget();

  function nextBudget() {
    return Math.ceil(BUDGET_BYTES_MAX ** random());
  }

  let connected = head;
  let headsSince = 0; // answers that have begun since the last cut
  const active = () => state.cuts < cutsMax && connected;
  // Of such answers the first is that to the recovery, or to the poll that was sent once more, the second that to the poll
  // behind it.
  const isFirst = (answer) => polls && !head && answer <= 2;

  function cut(client, server, place) {
    state.cuts++;
    state.places[place]++;
    if (!polls) connected = head; // a client may not even notice that it lost a connection on which a poll was
    headsSince = 0;
    budget = nextBudget();
    const dice = resets ? random() : 0.34 + 0.66 * random();
    if (dice < 0.34) {
      state.kinds.reset++;
      client.resetAndDestroy();
      server.resetAndDestroy();
    } else if (dice < 0.67) {
      state.kinds.end++;
      client.destroySoon(); // what was forwarded still arrives
      server.destroySoon();
    } else {
      // The server does not know yet: it goes on writing, and then the client comes back on another connection.
      state.kinds.halfOpen++;
      client.destroySoon();
      server.resume();
      setTimeout(() => server.destroy(), HALF_OPEN_MS_MAX).unref();
    }
  }

  const proxy = net.createServer((client) => {
    const server = net.connect(Number(port), host);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.on('error', () => {}); // a close follows
      socket.on('close', () => sockets.delete(socket));
    }
    let wasCut = false;
    let streams = false;
    let webSocket = false;
    let spared = false; // a recovery that is left alone
    let place = 'stream';
    const close = () => {
      if (wasCut) return;
      client.destroy();
      server.destroy();
    };
    client.on('close', close);
    server.on('close', close);
    client.on('end', () => { if (!wasCut) server.end(); });
    server.on('end', () => { if (!wasCut) client.end(); });

    client.on('data', (data) => {
      if (wasCut) return;
      const text = data.toString('latin1'); // masked where it is WebSocket
      if (/^(POST|GET) /.test(text)) [streams, spared, place] = [false, false, 'stream']; // connections are used again
      if (/^upgrade: websocket/im.test(text)) webSocket = true;
      if (!head && text.includes('/create_session.txt')) spared = true;
      if (text.includes('LS_recovery_from=')) {
        place = 'recovery';
        spared = random() >= (recoveries ? SHARE_IN_RECOVERY : 0);
      } else if (polls && active() && !isFirst(headsSince + 1) && text.includes('LS_polling=true') && /LS_idle_millis=[1-9]/.test(text) && random() < SHARE_WITHOUT_ANSWER * 0.1) {
        wasCut = true;
        // Half of them never reach the server; the answer of the others is lost. Not for those who send the request again
        // without being told to: the server takes that for the next poll, and what the answer said is lost for good.
        if (!answers || random() < 0.5) cut(client, server, 'unanswered');
        else server.write(data, () => cut(client, server, 'unanswered'));
        return;
      }
      server.write(data);
    });

    server.on('data', (data) => {
      if (wasCut) return; // a half-open connection is drained
      let from = 0;
      if (!streams) {
        // The head of a stream or a poll, in HTTP and in WebSocket frames alike.
        const begin = data.indexOf('CONOK,');
        streams = begin >= 0;
        if (streams) headsSince++;
        if (streams && isFirst(headsSince)) spared = true;
        // A client whose WebSocket ends before the message with CONOK gives WebSocket up for good.
        from = webSocket || !head && !polls ? data.length : begin;
      }
      if (!streams || spared || !active()) {
        // A recovery has succeeded with its first lines: a WebSocket goes on as any other stream does.
        if (streams && place === 'recovery') [spared, place] = [isFirst(headsSince), 'stream'];
        client.write(data);
        return;
      }
      const bytes = data.length - from;
      if (bytes < budget) {
        budget -= bytes;
        client.write(data);
        return;
      }
      let at = from + budget;
      if (!anywhere && !webSocket) {
        const end = data.indexOf('\r\n', at);
        if (end < 0) {
          client.write(data);
          return;
        }
        at = end + 2;
      }
      wasCut = true;
      client.write(data.subarray(0, at));
      cut(client, server, place);
    });
  });
  await new Promise((ready) => proxy.listen(0, '127.0.0.1', ready));
  return {
    address: `127.0.0.1:${proxy.address().port}`,
    state,
    reached() { connected = true; },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => proxy.close(closed));
    },
  };
}
