// A remote metadata adapter with the official Node SDK, unmodified: node metadata.cjs PORT [USER PASSWORD].
// Its rules are those of metadata.py.
const net = require('net');
const { MetadataProvider } = require('lightstreamer-adapter');

const [port, user, password] = process.argv.slice(2);
const stream = net.createConnection(Number(port), '127.0.0.1');
stream.on('close', () => process.exit(1)).on('error', () => process.exit(1));
const provider = new MetadataProvider(stream, {}, user && { user, password });
const say = (...words) => console.log(words.join(' '));
const modeName = (modes) => Object.keys(modes).find((mode) => modes[mode]).toUpperCase();
let single = null;
const ALL = { raw: true, merge: true, distinct: true, command: true };

provider.on('init', ({ parameters }, response) => { say('init', JSON.stringify(parameters)); response.success(); });
provider.on('notifyUser', ({ userName, userPassword, headers }, response) => {
  say('user', userName, userPassword, Object.keys(headers).sort());
  if (userName === 'denied') return response.error('not this one', 'access');
  if (userName === 'broke') return response.error('no credit', 'credits', { clientCode: -7, clientMessage: 'please pay é' });
  if (userName === 'broken') return response.error('a secret of the adapter');
  response.success(userName === 'narrow' ? 50.5 : 0, userName !== 'quiet');
});
provider.on('notifyNewSession', ({ userName, sessionId, contextProperties }, response) => {
  say('session', userName, sessionId, contextProperties.REMOTE_IP);
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
provider.on('getItems', ({ groupName }, response) => groupName === 'badgroup' ? response.error('bad group', 'items') : response.success(groupName.split(' ')));
provider.on('getSchema', ({ schemaName }, response) => schemaName === 'badschema' ? response.error('bad schema', 'schema') : response.success(schemaName.split(' ')));
provider.on('getItemData', ({ itemNames }, response) => response.success(itemNames.map((name) => (
  { distinctSnapLen: 0, minSourceFreq: 0, allowedModes: name === 'rawonly' ? { raw: true } : ALL }))));
provider.on('getUserItemData', ({ itemNames }, response) => response.success(itemNames.map((name) => (
  { allowedBufferSize: 0, allowedMaxItemFreq: name === 'slow' ? 2 : 0, allowedModes: ALL }))));
provider.on('notifyNewTables', ({ sessionId, tableInfos }, response) => {
  for (const table of tableInfos) {
    say('table', sessionId, table.winIndex, modeName(table.pubModes), table.groupName, table.schemaName, table.firstItemIndex, table.lastItemIndex, table.selector);
    if (table.groupName === 'refused') return response.error('refused', 'credits', { clientCode: -4, clientMessage: 'not for you' });
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
  response.success();
});
