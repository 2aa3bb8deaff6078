"""Follows an item whose every update carries the next number, with the official Python client.

Run: python python_counter.py http://HOST:PORT TRANSPORT ITEM
Prints what counter.mjs reports, one "KIND VALUE" a line, until its standard input ends.
"""

import sys
import threading

from lightstreamer.client import ClientListener, LightstreamerClient, Subscription, SubscriptionListener

PRINTING = threading.Lock()  # callbacks come from several threads


def report(kind, value):
    with PRINTING:
        print(kind, value, flush=True)


class Status(ClientListener):
    def onStatusChange(self, status):
        report("status", status)
        if status.startswith("CONNECTED:"):
            report("session", client.connectionDetails.getSessionId())

    def onServerError(self, code, message):
        report("error", f"{code} {message}")


class Numbers(SubscriptionListener):
    def onItemUpdate(self, update):
        report("update", update.getValue("n"))

    def onItemLostUpdates(self, name, position, count):
        report("lost", count)

    def onSubscriptionError(self, code, message):
        report("error", f"{code} {message}")


address, transport, item = sys.argv[1:]
client = LightstreamerClient(address, "DEMO")
client.connectionOptions.setForcedTransport(transport)
# Over WebSocket this client learns of a reset by silence only, so silence shall be short.
client.connectionOptions.setKeepaliveInterval(1000)
client.connectionOptions.setStalledTimeout(300)
client.connectionOptions.setReconnectTimeout(300)
client.addListener(Status())
subscription = Subscription("RAW", [item], ["n"])
subscription.setDataAdapter("REPLAY")
subscription.addListener(Numbers())
client.subscribe(subscription)
client.connect()
sys.stdin.read()
client.disconnect()
