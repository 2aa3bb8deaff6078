"""Follows an item whose every update carries the next number, with official Python clients, one for each address.

Run: python python_counter.py TRANSPORT ITEM http://HOST:PORT...
Prints what counter.mjs reports, one "CLIENT KIND VALUE" a line, until its standard input ends.
"""

import sys
import threading

from lightstreamer.client import ClientListener, LightstreamerClient, Subscription, SubscriptionListener

PRINTING = threading.Lock()  # callbacks come from several threads


class Follower(ClientListener, SubscriptionListener):
    def __init__(self, which, address, transport, item):
        self.which = which
        self.client = LightstreamerClient(address, "DEMO")
        options = self.client.connectionOptions
        options.setForcedTransport(transport)
        # Over WebSocket this client learns of a reset by silence only, so silence shall be short.
        options.setKeepaliveInterval(1000)
        options.setStalledTimeout(300)
        options.setReconnectTimeout(300)
        options.setIdleTimeout(1000)
        # On a busy machine recovery may take longer than it is patient by default.
        options.setSessionRecoveryTimeout(60_000)
        self.client.addListener(self)
        self.subscription = Subscription("RAW", [item], ["n"])
        self.subscription.setDataAdapter("REPLAY")
        self.subscription.addListener(self)
        self.client.subscribe(self.subscription)
        self.client.connect()

    def report(self, kind, value):
        with PRINTING:
            print(self.which, kind, value, flush=True)

    def onStatusChange(self, status):
        self.report("status", status)
        if status.startswith("CONNECTED:"):
            self.report("session", self.client.connectionDetails.getSessionId())

    def onServerError(self, code, message):
        self.report("error", f"{code} {message}")

    def onItemUpdate(self, update):
        self.report("update", update.getValue("n"))

    def onItemLostUpdates(self, name, position, count):
        self.report("lost", count)

    def onSubscriptionError(self, code, message):
        self.report("error", f"{code} {message}")


transport, item, *addresses = sys.argv[1:]
followers = [Follower(which, address, transport, item) for which, address in enumerate(addresses)]
sys.stdin.read()
for follower in followers:
    follower.client.disconnect()
