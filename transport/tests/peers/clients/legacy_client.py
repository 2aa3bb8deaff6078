"""A client of the text protocol before TLCP, unmodified from PyPI, against the server.

Run: python legacy_client.py http://HOST:PORT
Prints one line a case, "ok NAME" or "not ok NAME: reason", which run.mjs reads. The library (lightstreamer-client 0.1,
of 2018) is the vendor's own example for the protocol, packaged: it knows no snapshots and no errors but by its log.
"""

import logging
import sys
import threading
import traceback

from lightstreamer_client import LightstreamerClient, LightstreamerSubscription

ITEMS = ["item1", "item2", "item3"]
FIELDS = ["stock_name", "last_price", "time", "bid"]
WAIT_S_MAX = 20  # a bound, not an expectation


class Log(logging.Handler):
    """The library's log, in which its failures end."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class Seen:
    """A subscription with all it reported."""

    def __init__(self, client, items=ITEMS, fields=FIELDS, mode="MERGE", adapter="QUOTE_ADAPTER"):
        self.changed, self.updates, self.rows = threading.Condition(), 0, {}
        subscription = LightstreamerSubscription(mode=mode, items=items, fields=fields, adapter=adapter)
        subscription.addlistener(self.record)
        self.key = client.subscribe(subscription)

    def record(self, update):
        with self.changed:
            self.rows[update["name"]] = update["values"]
            self.updates += 1
            self.changed.notify_all()

    def until(self, condition, what):
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S_MAX), f"waited in vain for: {what}"

    def more(self, count):
        before = self.updates
        self.until(lambda: self.updates >= before + count, f"{count} more updates")


class Session:
    """A connected client, disconnected at the end."""

    def __init__(self, address, adapter_set="DEMO"):
        self.client = LightstreamerClient("user", "password", address, adapter_set)

    def __enter__(self):
        self.client.connect()
        return self.client

    def __exit__(self, *_):
        self.client.disconnect()


def connects_and_disconnects(address, log):
    with Session(address) as client:
        assert client._session["SessionId"].isalnum(), client._session
        assert int(client._session["RequestLimit"]) > 0, client._session
        assert int(client._session["KeepaliveMillis"]) > 0, client._session


def receives_updates(address, log):
    with Session(address) as client:
        seen = Seen(client)
        # Without a snapshot, the first update of an item has all of its fields, and later ones keep what they leave out.
        seen.until(lambda: len(seen.rows) == len(ITEMS), "an update of each item")
        seen.more(5)
        for name, values in seen.rows.items():
            assert list(values) == FIELDS and all(values.values()), f"{name}: {values}"
            assert float(values["last_price"]) > 0, f"{name}: {values}"


def adds_a_second_table_and_removes_the_first(address, log):
    with Session(address) as client:
        first, second = Seen(client), Seen(client, items=["item3", "item30"], fields=["ask", "last_price"])
        first.more(1)
        second.more(1)
        client.unsubscribe(first.key)
        second.more(1)  # the stream is in order: what was on its way for the first has arrived
        before = first.updates
        second.more(3)
        assert first.updates == before, "updates came after the table was removed"


def binds_again_when_it_is_sent_to(address, log):
    with Session(address) as client:
        seen, session = Seen(client), client._session["SessionId"]
        seen.more(1)
        assert client._control({"LS_op": "force_rebind"}) == "OK"
        seen.more(5)
        seen.until(lambda: client._bind_counter == 1, "a second connection")
        seen.more(5)
        assert client._session["SessionId"] == session


def is_refused_an_unknown_adapter_set(address, log):
    client = LightstreamerClient("user", "password", address, "NO_SUCH_SET")
    try:
        client.connect()
    except (IOError, TypeError):  # it fails to join the bytes of the answer for its log
        return
    raise AssertionError("it connected")


def is_told_of_an_unknown_data_adapter(address, log):
    with Session(address) as client:
        before = log.lines.count("Subscription error")
        Seen(client, adapter="NO_SUCH_ADAPTER")
        assert log.lines.count("Subscription error") == before + 1, log.lines
        assert Seen(client).more(1) is None


CASES = [
    connects_and_disconnects,
    receives_updates,
    adds_a_second_table_and_removes_the_first,
    binds_again_when_it_is_sent_to,
    is_refused_an_unknown_adapter_set,
    is_told_of_an_unknown_data_adapter,
]


def main():
    address, log = sys.argv[1], Log()
    logging.getLogger().addHandler(log)
    failed = False
    for case in CASES:
        name = case.__name__.replace("_", " ")
        try:
            case(address, log)
            print(f"ok {name}", flush=True)
        except BaseException as error:
            failed = True
            reason = (str(error) or type(error).__name__).replace("\n", " ")
            print(f"not ok {name}: {reason}", flush=True)
            traceback.print_exc(file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
