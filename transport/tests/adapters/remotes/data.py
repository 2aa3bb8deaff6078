"""A remote data adapter with the official Python SDK, unmodified: python data.py PORT [USER PASSWORD [CA_FILE]].

tick-*   snapshot, then a counter that goes on every few milliseconds; "run" tells one process from another
odd      values that encodings stumble over, then the end of the snapshot, an update and a clear
cleared  a value
news     three events as a snapshot (DISTINCT)
list     two rows as a snapshot (COMMAND)
go-*     makes the adapter go on with one of these three: the value is cleared, one more event comes, rows change
still-*  its name as a snapshot, and nothing more
silent   no snapshot, and never an event
bad      refused
broken   the adapter fails on it, unlike refusing it
fatal-*  the adapter says that it has failed as a whole; so it does, by another way, on later-*. Only if the rest of
         the name is the number of its process, so that the next process does not fail as well
With the parameter "fail" its init fails.
"""
import logging
import os
import ssl
import sys
import threading

from lightstreamer_adapter.interfaces.data import DataProvider, DataProviderError, FailureError, SubscribeError
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
        if "fail" in parameters:
            raise DataProviderError("not today")

    def set_listener(self, event_listener):
        self.listener = event_listener

    def issnapshot_available(self, item_name):
        return item_name != "silent"

    def subscribe(self, item_name):
        say("subscribe", item_name)
        if item_name == "bad":
            raise SubscribeError("No such item")
        if item_name == "broken":
            raise RuntimeError("out of order")
        if item_name == f"fatal-{os.getpid()}":
            raise FailureError("beyond repair")
        if item_name == f"later-{os.getpid()}":
            self.listener.failure(Exception("worn out"))
        if item_name == "odd":
            self.listener.update("odd", ODD, True)
            self.listener.end_of_snapshot("odd")
            self.listener.update("odd", {"bytes": b"\x61\xe9"}, False)
        if item_name == "news":
            for number in "123":
                self.listener.update("news", {"headline": number}, True)
            self.listener.end_of_snapshot("news")
        if item_name == "list":
            for key in "ab":
                self.listener.update("list", {"key": key, "command": "ADD", "value": "1"}, True)
            self.listener.end_of_snapshot("list")
        if item_name == "cleared":
            self.listener.update("cleared", {"value": "1"}, True)
            self.listener.end_of_snapshot("cleared")
        if item_name.startswith("still-"):
            self.listener.update(item_name, {"name": item_name}, True)
            self.listener.end_of_snapshot(item_name)
        if item_name.startswith("go-"):
            self.go_on(item_name[3:])
        if item_name.startswith("tick-"):
            self.listener.update(item_name, {"n": "0", "run": str(os.getpid())}, True)
            self.listener.end_of_snapshot(item_name)
            stop = self.stops[item_name] = threading.Event()
            threading.Thread(target=self.tick, args=(item_name, stop), daemon=True).start()

    def unsubscribe(self, item_name):
        say("unsubscribe", item_name)
        if item_name in self.stops:
            self.stops.pop(item_name).set()

    def go_on(self, item_name):
        for event in LATER[item_name]:
            if event is None:
                self.listener.clear_snapshot(item_name)
            else:
                self.listener.update(item_name, event, False)

    def tick(self, item_name, stop):
        count = 0
        while not stop.wait(0.005):
            count += 1
            self.listener.update(item_name, {"n": str(count)}, False)


LATER = {
    "news": [{"headline": "4"}],
    "list": [{"key": "a", "command": "UPDATE", "value": "2"}, {"key": "b", "command": "DELETE"},
             {"key": "c", "command": "ADD", "value": "3"}],
    "cleared": [None],
}

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    arguments = sys.argv[1:]
    context = ssl.create_default_context(cafile=arguments[3]) if len(arguments) > 3 else None
    server = DataProviderServer(Adapter(), ("localhost" if context else "127.0.0.1", int(arguments[0])), ssl_context=context)
    if len(arguments) > 2:
        server.remote_user, server.remote_password = arguments[1:3]
    server.start()
    say("started")
    threading.Event().wait()
