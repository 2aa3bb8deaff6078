"""Shows what the official Python client makes of each value: one JSON array [number, value] a line.

Run: python python_values.py http://HOST:PORT
Prints "subscribed" first, "error TEXT" if something goes wrong, and goes on until its standard input ends.
"""

import json
import sys
import threading

from lightstreamer.client import ClientListener, LightstreamerClient, Subscription, SubscriptionListener

PRINTING = threading.Lock()  # callbacks come from several threads


def report(line):
    with PRINTING:
        print(line, flush=True)


class Reader(ClientListener, SubscriptionListener):
    def onServerError(self, code, message):
        report(f"error {code} {message}")

    def onSubscriptionError(self, code, message):
        report(f"error {code} {message}")

    def onSubscription(self):
        report("subscribed")

    def onItemUpdate(self, update):
        report(json.dumps([int(update.getValue("n")), update.getValue("v")]))


reader = Reader()
client = LightstreamerClient(sys.argv[1], "VALUES")
client.addListener(reader)
subscription = Subscription("MERGE", ["values"], ["n", "v"])
subscription.setRequestedSnapshot("yes")
subscription.addListener(reader)
client.subscribe(subscription)
client.connect()
sys.stdin.read()
client.disconnect()
