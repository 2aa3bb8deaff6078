// Follows an item whose every update carries the next number, for Node and browsers. RAW, so that nothing may be merged:
// a number that is missing was lost, one that comes twice was repeated.

/**
 * Connects and subscribes. `report(kind, value)` is told "status", "session", "update" (a number), "lost" (a count) and
 * "error". Returns a function that disconnects.
 */
export function followCounter({ ls, address, transport, item }, report) {
  const client = new ls.LightstreamerClient(address, 'DEMO');
  client.connectionOptions.setForcedTransport(transport);
  // On a busy machine recovery may take longer than clients are patient by default.
  client.connectionOptions.setSessionRecoveryTimeout(60_000);
  client.addListener({
    onStatusChange(status) {
      report('status', status);
      const session = client.connectionDetails.getSessionId(); // none for a moment of a recovery, in generation 8
      if (status.startsWith('CONNECTED:') && session) report('session', session);
    },
    onServerError: (code, message) => report('error', `${code} ${message}`),
  });
  const subscription = new ls.Subscription('RAW', [item], ['n']);
  subscription.setDataAdapter('REPLAY');
  subscription.addListener({
    onItemUpdate: (update) => report('update', Number(update.getValue('n'))),
    onItemLostUpdates: (_name, _position, count) => report('lost', count),
    onSubscriptionError: (code, message) => report('error', `${code} ${message}`),
  });
  client.subscribe(subscription);
  client.connect();
  return () => client.disconnect();
}
