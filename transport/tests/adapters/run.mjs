// Remote adapters with the official SDKs, unmodified, against the server over real sockets, seen by an official client; and
// the adapters in Rust that are examples, seen by the same.
//
//   node run.mjs
//
// Environment: BRIGHTWIRE_BIN and BRIGHTWIRE_PEERS_PYTHON, as in ../peers/run.mjs, whose packages are used.

import './data.mjs';
import './metadata.mjs';
import './readme.mjs';
import './examples.mjs';
import './crowd.mjs';
