// A remote metadata adapter with the official Node SDK, unmodified: node metadata.cjs PORT [USER PASSWORD [CA_FILE]].
// Its rules are those of metadata.py.
const { readFileSync } = require('fs');
const net = require('net');
const tls = require('tls');
const { MetadataProvider } = require('lightstreamer-adapter');

const [port, user, password, caFile] = process.argv.slice(2);
const stream = caFile
  ? tls.connect({ port: Number(port), host: 'localhost', ca: readFileSync(caFile) })
  : net.createConnection(Number(port), '127.0.0.1');
stream.on('close', () => process.exit(1)).on('error', () => process.exit(1));
const provider = new MetadataProvider(stream, {}, user && { user, password });
const say = (...words) => console.log(words.join(' '));
const modeName = (modes) => Object.keys(modes).find((mode) => modes[mode]).toUpperCase();
let single = null;
const ALL = { raw: true, merge: true, distinct: true, command: true };

provider.on('init', ({ parameters }, response) => {
  say('init', JSON.stringify(parameters));
  if ('fail' in parameters) return response.error('not today', 'metadata');
  response.success();
});
provider.on('notifyUser', ({ userName, userPassword, headers }, response) => {
  say('user', userName, userPassword, headers.host, headers.upgrade);
  if (userName === 'denied') return response.error('not this one', 'access');
  if (userName === 'broke') return response.error('no credit', 'credits', { clientCode: -7, clientMessage: 'please pay é' });
  if (userName === 'broken') return response.error('a secret of the adapter');
  response.success(userName === 'narrow' ? 50.5 : 0, userName !== 'quiet');
});
provider.on('notifyNewSession', ({ userName, sessionId, contextProperties }, response) => {
  say('session', userName, sessionId, ...['REMOTE_IP', 'LOCAL_SERVER', 'CLIENT_TYPE'].map((name) => contextProperties[name]));
  if (userName === 'nosession') return response.error('no session', 'credits', { clientCode: -8, clientMessage: 'not now' });
  if (userName === 'unannounced') return response.error('not this one', 'notification');
  if (userName === 'single') {
    if (single) return response.error('conflict', 'conflictingSession', { clientCode: -2, clientMessage: 'one at a time', conflictingSessionId: single });
    single = sessionId;
  }
  response.success();
});
provider.on('notifySessionClose', ({ sessionId }, response) => {
  if (single === sessionId) single = null;
  say('closed', sessionId);
  response.success();
});
provider.on('getItems', ({ groupName }, response) => {
  if (groupName === 'badgroup') return response.error('bad group', 'items');
  if (groupName === 'brokengroup') return response.error('out of order');
  response.success(groupName.split(' '));
});
provider.on('getSchema', ({ schemaName }, response) => {
  if (schemaName === 'badschema') return response.error('bad schema', 'schema');
  if (schemaName === 'brokenschema') return response.error('out of order');
  response.success(schemaName.split(' '));
});
provider.on('getItemData', ({ itemNames }, response) => response.success(itemNames.map((name) => ({
  distinctSnapLen: name === 'trades' ? 3 : 0,
  minSourceFreq: name === 'thin' ? 1.5 : 0,
  allowedModes: name === 'rawonly' ? { raw: true } : ALL,
}))));
provider.on('getUserItemData', ({ userName, itemNames }, response) => response.success(itemNames.map((name) => {
  say('buffer', userName, name);
  // The SDK does not let an adapter allow no mode at all.
  const allowedModes = name === 'notforyou' && userName === 'dan' ? { raw: true } : ALL;
  return { allowedBufferSize: 5, allowedMaxItemFreq: name === 'slow' ? 2 : 0, allowedModes };
})));
provider.on('notifyNewTables', ({ sessionId, tableInfos }, response) => {
  for (const table of tableInfos) {
    say('table', sessionId, table.winIndex, modeName(table.pubModes), table.groupName, table.schemaName, table.firstItemIndex, table.lastItemIndex, table.selector);
    if (table.groupName === 'refused') return response.error('refused', 'credits', { clientCode: -4, clientMessage: 'not for you' });
    if (table.groupName === 'unnotified') return response.error('cannot', 'notification');
  }
  response.success();
});
provider.on('notifyTablesClose', ({ sessionId, tableInfos }, response) => {
  for (const table of tableInfos) say('table-closed', sessionId, table.winIndex, table.groupName);
  response.success();
});
provider.on('notifyUserMessage', ({ userName, userMessage }, response) => {
  say('message', userName, userMessage);
  if (userMessage === 'refuse') return response.error('refused', 'credits', { clientCode: -1, clientMessage: 'not that' });
  if (userMessage === 'fail') return response.error('cannot', 'notification');
  if (userMessage === 'crash') return response.error('out of order');
  response.success();
});
