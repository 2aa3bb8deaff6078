"""A remote data adapter with the official Python SDK, unmodified: python data.py PORT [USER PASSWORD].

tick-*   snapshot, then a counter that goes on every few milliseconds; "run" tells one process from another
odd      values that encodings stumble over, then the end of the snapshot, an update and a clear
silent   no snapshot, and never an event
bad      refused
"""
import logging
import os
import sys
import threading

from lightstreamer_adapter.interfaces.data import DataProvider, SubscribeError
from lightstreamer_adapter.server import DataProviderServer

ODD = {"bar": "a|b", "plus": "1+1", "percent": "100%", "hash": "#", "dollar": "$", "empty": "",
       "null": None, "text": "é € \U0001F600", "lines": "a\r\nb"}


def say(*words):
    """A whole line at once: several threads speak."""
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


class Adapter(DataProvider):
    def __init__(self):
        self.listener = None
        self.stops = {}

    def initialize(self, parameters, config_file=None):
        say("init", sorted(parameters.items()))

    def set_listener(self, event_listener):
        self.listener = event_listener

    def issnapshot_available(self, item_name):
        return item_name != "silent"

    def subscribe(self, item_name):
        say("subscribe", item_name)
        if item_name == "bad":
            raise SubscribeError("No such item")
        if item_name == "odd":
            self.listener.update("odd", ODD, True)
            self.listener.end_of_snapshot("odd")
            self.listener.update("odd", {"bytes": b"\x61\xe9"}, False)
        if item_name.startswith("tick-"):
            self.listener.update(item_name, {"n": "0", "run": str(os.getpid())}, True)
            self.listener.end_of_snapshot(item_name)
            stop = self.stops[item_name] = threading.Event()
            threading.Thread(target=self.tick, args=(item_name, stop), daemon=True).start()

    def unsubscribe(self, item_name):
        say("unsubscribe", item_name)
        if item_name in self.stops:
            self.stops.pop(item_name).set()

    def tick(self, item_name, stop):
        count = 0
        while not stop.wait(0.005):
            count += 1
            self.listener.update(item_name, {"n": str(count)}, False)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    server = DataProviderServer(Adapter(), ("127.0.0.1", int(sys.argv[1])))
    if len(sys.argv) > 2:
        server.remote_user, server.remote_password = sys.argv[2:4]
    server.start()
    say("started")
    threading.Event().wait()
