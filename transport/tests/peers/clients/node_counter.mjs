// Follows an item whose every update carries the next number, with Node's official clients, one for each address.
//
//   node node_counter.mjs 9|8 TRANSPORT ITEM http://HOST:PORT...
//
// Prints what counter.mjs reports, one "CLIENT KIND VALUE" a line, until its standard input ends.

import { createRequire } from 'node:module';

import { followCounter } from './counter.mjs';

const [generation, transport, item, ...addresses] = process.argv.slice(2);
const ls = createRequire(import.meta.url)(generation === '8' ? 'lightstreamer-client-node-8' : 'lightstreamer-client-node');
for (const [which, address] of addresses.entries()) {
  followCounter({ ls, address, transport, item }, (kind, value) => console.log(which, kind, value));
}
process.stdin.resume();
process.stdin.on('end', () => process.exit());
