// Messages to the server, in sequences and outside of them, and what the client is told of each. The environment is
// that of a case (recorder.mjs).

import { check, connect, disconnect, makeClient } from './recorder.mjs';

/** Sends a message and records its outcomes. */
function send(seen, outcomes, text, sequence, wait = null, enqueue = false) {
  const outcome = (what) => seen.events.on((...args) => outcomes.push({ text, what, args: args.slice(1) }));
  seen.client.sendMessage(text, sequence, wait, {
    onProcessed: outcome('processed'),
    onDeny: outcome('denied'),
    onError: outcome('error'),
    onDiscarded: outcome('discarded'),
    onAbort: outcome('aborted'),
  }, enqueue);
}

const texts = (outcomes) => outcomes.map(({ text }) => text);
const numbered = (prefix, n) => Array.from({ length: n }, (_, i) => `${prefix} ${i + 1}`);

/** The outcomes must be of these messages, each once, all processed; their order counts only if `ordered`. */
function checkOutcomes(outcomes, wanted, ordered) {
  const failed = outcomes.find(({ what }) => what !== 'processed');
  check(!failed, `not processed: ${JSON.stringify(failed)}`);
  const told = ordered ? texts(outcomes) : texts(outcomes).sort();
  check(String(told) === String(ordered ? wanted : [...wanted].sort()), `told of ${JSON.stringify(told)} instead of ${JSON.stringify(wanted)}`);
}

export const MESSAGES = {
  async 'sends messages in an ordered sequence'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const outcomes = [];
    const wanted = numbered('ordered', 20);
    for (const text of wanted) send(seen, outcomes, text, 'sequence');
    await seen.events.until(() => outcomes.length >= wanted.length, () => `20 outcomes, ${outcomes.length} are there`);
    checkOutcomes(outcomes, wanted, true);
    await disconnect(seen);
  },

  async 'sends messages in several sequences and without order'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const [a, b, none] = [[], [], []];
    for (let i = 1; i <= 10; i++) {
      send(seen, a, `a ${i}`, 'a', 5000);
      send(seen, b, `b ${i}`, 'b');
      send(seen, none, `none ${i}`, 'UNORDERED_MESSAGES');
    }
    const all = () => a.length + b.length + none.length;
    await seen.events.until(() => all() >= 30, () => `30 outcomes, ${all()} are there`);
    checkOutcomes(a, numbered('a', 10), true);
    checkOutcomes(b, numbered('b', 10), true);
    checkOutcomes(none, numbered('none', 10), false);
    await disconnect(seen);
  },

  async 'sends messages with odd contents'(env) {
    const seen = makeClient(env);
    await connect(seen);
    const outcomes = [];
    const wanted = ['', ' ', 'a&b=c', '100%', 'a+b', 'line one\r\nline two', '\u00e9 \u20ac \u{1f600}', 'x'.repeat(20_000)];
    for (const text of wanted) send(seen, outcomes, text, 'odd');
    await seen.events.until(() => outcomes.length >= wanted.length, () => `${wanted.length} outcomes, ${outcomes.length} are there`);
    checkOutcomes(outcomes, wanted, true);
    await disconnect(seen);
  },

  async 'keeps messages until it is connected'(env) {
    const seen = makeClient(env);
    const outcomes = [];
    send(seen, outcomes, 'early', 'kept', null, true);
    await connect(seen);
    await seen.events.until(() => outcomes.length >= 1, 'the outcome');
    checkOutcomes(outcomes, ['early'], true);
    await disconnect(seen);
  },
};
