"""The official Python client against the server.

Run: python python_client.py http://HOST:PORT [FORCED_TRANSPORT]
Prints one line a case, "ok NAME" or "not ok NAME: reason", which run.mjs reads. The cases are those of
cases.mjs, in this client's own style: callbacks come from the library's threads. They run side by side.
"""

import concurrent.futures
import sys
import threading
import traceback

from lightstreamer.client import ClientListener, ClientMessageListener, LightstreamerClient, Subscription, SubscriptionListener

ITEMS = ["item1", "item2", "item3"]
FIELDS = ["stock_name", "last_price", "time", "bid"]
TRANSPORTS = ["WS-STREAMING", "HTTP-STREAMING", "WS-POLLING", "HTTP-POLLING"]
WAIT_S_MAX = 30  # a bound, not an expectation


class Events:
    """What listeners saw; `until` waits for a condition on it."""

    def __init__(self):
        self.changed = threading.Condition()
        self.failure = None

    def record(self, action):
        with self.changed:
            try:
                action()
            except Exception as error:  # the library would swallow it
                self.failure = self.failure or error
            self.changed.notify_all()

    def until(self, condition, what):
        with self.changed:
            self.changed.wait_for(lambda: self.failure or condition(), WAIT_S_MAX)
            if self.failure:
                raise self.failure
            assert condition(), f"waited in vain for: {what}"


def wanted_status(transport):
    """Left alone, the client must end on what it prefers."""
    return f"CONNECTED:{transport or 'WS-STREAMING'}"


class Connection(ClientListener):
    """A client with all it reported."""

    def __init__(self, address, transport, adapter_set="DEMO"):
        self.events, self.statuses, self.errors, self.properties = Events(), [], [], []
        self.client = LightstreamerClient(address, adapter_set)
        if transport:
            self.client.connectionOptions.setForcedTransport(transport)
        self.client.addListener(self)
        self.wanted = wanted_status(transport)

    def onStatusChange(self, status):
        self.events.record(lambda: self.statuses.append(status))

    def onServerError(self, code, message):
        self.events.record(lambda: self.errors.append((code, message)))

    def onPropertyChange(self, name):
        self.events.record(lambda: self.properties.append(name))

    def status(self):
        return self.statuses[-1] if self.statuses else None

    def reach(self, status):
        self.events.until(lambda: self.status() == status, status)

    def __enter__(self):
        self.client.connect()
        try:
            self.reach(self.wanted)
        except BaseException:
            self.client.disconnect()
            raise
        return self

    def __exit__(self, failure, *_):
        self.client.disconnect()
        if failure is None:  # else the first failure is the one to tell
            self.reach("DISCONNECTED")

    def subscribe(self, **options):
        return Seen(self, **options)


class Seen(SubscriptionListener):
    """A subscription with all it reported; each update is checked as it comes."""

    def __init__(self, connection, mode="MERGE", items=ITEMS, fields=FIELDS, adapter="QUOTE_ADAPTER", frequency=None):
        self.events, self.fields = connection.events, fields
        self.unsubscribed, self.updates, self.live, self.lost = 0, 0, 0, 0
        self.errors, self.frequencies, self.rows, self.first = [], [], {}, {}
        self.subscription = Subscription(mode, items, fields)
        self.subscription.setDataAdapter(adapter)
        self.subscription.setRequestedSnapshot("yes")
        if frequency:
            self.subscription.setRequestedMaxFrequency(frequency)
        self.subscription.addListener(self)
        connection.client.subscribe(self.subscription)

    def onUnsubscription(self):
        self.events.record(lambda: setattr(self, "unsubscribed", self.unsubscribed + 1))

    def onSubscriptionError(self, code, message):
        self.events.record(lambda: self.errors.append((code, message)))

    def onRealMaxFrequency(self, frequency):
        self.events.record(lambda: self.frequencies.append(frequency))

    def onItemLostUpdates(self, name, position, count):
        self.events.record(lambda: setattr(self, "lost", self.lost + count))

    def onItemUpdate(self, update):
        self.events.record(lambda: self._record(update))

    def _record(self, update):
        item = update.getItemName()
        values = [update.getValue(field) for field in self.fields]
        previous = self.rows.get(item)
        assert update.isSnapshot() == (previous is None), f"{item}: isSnapshot is {update.isSnapshot()}"
        for position, field in enumerate(self.fields, 1):
            value = values[position - 1]
            assert update.getValue(position) == value, f"{item}: {field} differs by name and position"
            same = previous is not None and previous[position - 1] == value
            assert same or update.isValueChanged(field), f"{item}: {field} changed without being marked"
        self.rows[item] = values
        self.first.setdefault(item, values)
        self.updates += 1
        self.live += not update.isSnapshot()


class Outcomes(ClientMessageListener):
    """What became of messages, in the order in which it was told."""

    def __init__(self, events):
        self.events, self.told = events, []

    def _tell(self, what, text):
        self.events.record(lambda: self.told.append((what, text)))

    def onProcessed(self, text, response=None):
        self._tell("processed", text)

    def onDeny(self, text, code, error):
        self._tell("denied", text)

    def onError(self, text):
        self._tell("error", text)

    def onDiscarded(self, text):
        self._tell("discarded", text)

    def onAbort(self, text, sent):
        self._tell("aborted", text)


def connects_and_disconnects(address, transport):
    with Connection(address, transport) as connection:
        assert connection.errors == [], connection.errors
        details = connection.client.connectionDetails
        connection.events.until(lambda: details.getClientIp() == "127.0.0.1", "CLIENTIP,127.0.0.1")
        assert details.getSessionId().isalnum(), details.getSessionId()


def receives_a_snapshot_and_live_updates(address, transport):
    with Connection(address, transport) as connection:
        seen = connection.subscribe()
        connection.events.until(lambda: len(seen.rows) == len(ITEMS), "a snapshot of each item")
        connection.events.until(lambda: seen.live >= 5, "5 live updates")
        # The subscription may be ahead of its listeners, but not for good.
        held = lambda item: [seen.subscription.getValue(item, field) for field in FIELDS]
        connection.events.until(
            lambda: all(held(item) == seen.rows[item] for item in ITEMS), "the subscription to hold what its listener was told"
        )
        for item, values in seen.first.items():
            assert all(values), f"{item}: the snapshot lacks values: {values}"
        assert seen.lost == 0, f"{seen.lost} updates were lost"


def adds_a_second_subscription_and_removes_the_first(address, transport):
    with Connection(address, transport) as connection:
        events, first = connection.events, connection.subscribe()
        events.until(lambda: first.updates > 0, "updates of the first subscription")
        second = connection.subscribe(items=["item3", "item30"], fields=["ask", "last_price", "item_status"])
        events.until(lambda: len(second.rows) == 2, "snapshots of the second subscription")
        connection.client.unsubscribe(first.subscription)
        events.until(lambda: first.unsubscribed == 1, "onUnsubscription")
        before, other = first.updates, second.updates
        events.until(lambda: second.updates >= other + 3, "the second subscription to go on")
        assert first.updates == before, "updates came after onUnsubscription"


def changes_the_frequency_of_a_live_subscription(address, transport):
    with Connection(address, transport) as connection:
        events, seen = connection.events, connection.subscribe(frequency="unlimited")
        events.until(lambda: seen.frequencies[-1:] == ["unlimited"], "a real frequency of unlimited")
        seen.subscription.setRequestedMaxFrequency("2")
        events.until(lambda: seen.frequencies[-1] != "unlimited" and float(seen.frequencies[-1]) == 2, "a real frequency of 2")
        count = seen.updates
        events.until(lambda: seen.updates > count, "updates at 2 per second")
        seen.subscription.setRequestedMaxFrequency("unlimited")
        events.until(lambda: seen.frequencies[-1] == "unlimited", "a real frequency of unlimited again")


def gets_the_bandwidth_it_asks_for(address, transport):
    connection = Connection(address, transport)
    options = connection.client.connectionOptions
    granted = lambda: options.getRealMaxBandwidth() not in (None, "unlimited", "unmanaged") and float(options.getRealMaxBandwidth())
    options.setRequestedMaxBandwidth("50")
    with connection:
        connection.events.until(lambda: granted() == 50, "a real bandwidth of 50")
        options.setRequestedMaxBandwidth("40")
        connection.events.until(lambda: granted() == 40, "a real bandwidth of 40")


def changes_its_transport_while_it_is_connected(address, transport):
    with Connection(address, transport) as connection:
        session = connection.client.connectionDetails.getSessionId()
        seen = connection.subscribe()
        for other in [*(name for name in TRANSPORTS if name != transport), transport]:
            connection.client.connectionOptions.setForcedTransport(other)
            connection.reach(wanted_status(other))
            count = seen.updates
            connection.events.until(lambda: seen.updates >= count + 3, f"updates by {other}")
        now = connection.client.connectionDetails.getSessionId()
        assert now == session, f"session {session} became {now}"


def sends_messages_in_sequences_and_without_order(address, transport):
    with Connection(address, transport) as connection:
        ordered, unordered = Outcomes(connection.events), Outcomes(connection.events)
        wanted = ["", " ", "a&b=c", "100%", "a+b", "line one\r\nline two", "\u00e9 \u20ac \U0001f600", "x" * 20_000]
        for number, text in enumerate(wanted):
            connection.client.sendMessage(text, "odd", -1, ordered)
            connection.client.sendMessage(str(number), None, -1, unordered)
        connection.events.until(lambda: len(ordered.told) + len(unordered.told) == 2 * len(wanted), "all outcomes")
        assert ordered.told == [("processed", text) for text in wanted], ordered.told
        assert sorted(unordered.told) == [("processed", str(number)) for number in range(len(wanted))], unordered.told


def is_told_of_an_unknown_adapter_set(address, transport):
    connection = Connection(address, transport, "NO_SUCH_SET")
    connection.client.connect()
    try:
        connection.events.until(lambda: connection.errors, "onServerError")
        assert connection.errors[0] == (2, "Requested Adapter Set not available"), connection.errors
        connection.reach("DISCONNECTED")
    finally:
        connection.client.disconnect()


def is_told_of_a_mode_the_item_does_not_have(address, transport):
    with Connection(address, transport) as connection:
        good = connection.subscribe()
        connection.events.until(lambda: good.updates > 0, "updates")
        bad = connection.subscribe(mode="DISTINCT", items=["item1"])
        connection.events.until(lambda: bad.errors, "onSubscriptionError")
        assert bad.errors[0][0] == 24, bad.errors


def is_told_of_an_unknown_data_adapter(address, transport):
    refused(address, transport, 17, adapter="NO_SUCH_ADAPTER")


def refused(address, transport, code, **options):
    with Connection(address, transport) as connection:
        bad = connection.subscribe(**options)
        connection.events.until(lambda: bad.errors, "onSubscriptionError")
        assert bad.errors[0][0] == code, bad.errors
        good = connection.subscribe()  # the session survives it
        connection.events.until(lambda: good.updates > 0, "updates of another subscription")


CASES = [
    connects_and_disconnects,
    receives_a_snapshot_and_live_updates,
    adds_a_second_subscription_and_removes_the_first,
    changes_the_frequency_of_a_live_subscription,
    gets_the_bandwidth_it_asks_for,
    changes_its_transport_while_it_is_connected,
    sends_messages_in_sequences_and_without_order,
    is_told_of_an_unknown_adapter_set,
    is_told_of_a_mode_the_item_does_not_have,
    is_told_of_an_unknown_data_adapter,
]


def run(case, address, transport):
    name = case.__name__.replace("_", " ")
    try:
        case(address, transport)
        return f"ok {name}"
    except Exception as error:
        traceback.print_exc()
        reason = (str(error) or type(error).__name__).replace("\n", " ")
        return f"not ok {name}: {reason}"


def main():
    address, transport = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else None)
    with concurrent.futures.ThreadPoolExecutor(len(CASES)) as pool:
        for outcome in concurrent.futures.as_completed([pool.submit(run, case, address, transport) for case in CASES]):
            print(outcome.result(), flush=True)


main()
