"""A remote metadata adapter with the official Python SDK, unmodified: python metadata.py PORT [USER PASSWORD [CA_FILE]].

Users     denied, broke (credits), broken (an error of the adapter), single (one session at a time); refused with their
          session: nosession (credits), unannounced; narrow has little bandwidth, quiet wants no tables; the rest may enter
Groups    badgroup, brokengroup; refused and unnotified (at notify_new_tables); else item names with blanks between
Schemas   badschema, brokenschema; else field names with blanks between
Items     slow has at most two updates per second, thin is thinned out, trades has a snapshot of three, rawonly allows RAW
          only, notforyou no mode to the user "dan"
Messages  refuse (credits), fail, crash; the rest are taken
With the parameter "fail" its init fails.
Everything that it is told goes to the standard output.
"""
import ssl
import sys
import threading

from lightstreamer_adapter.interfaces import metadata
from lightstreamer_adapter.interfaces.metadata import Mode
from lightstreamer_adapter.server import MetadataProviderServer


def say(*words):
    """A whole line at once: several threads speak."""
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


class Adapter(metadata.MetadataProvider):
    def __init__(self):
        self.single = None

    def initialize(self, parameters, config_file=None):
        say("init", sorted(parameters.items()))
        if "fail" in parameters:
            raise metadata.MetadataProviderError("not today")

    def notify_user(self, user, password, http_headers):
        say("user", user, password, http_headers.get("host"), http_headers.get("upgrade"))
        if user == "denied":
            raise metadata.AccessError("not this one")
        if user == "broke":
            raise metadata.CreditsError(-7, "no credit", "please pay é")
        if user == "broken":
            raise RuntimeError("a secret of the adapter")

    def get_allowed_max_bandwidth(self, user):
        return 50.5 if user == "narrow" else 0.0

    def wants_tables_notification(self, user):
        return user != "quiet"

    def notify_new_session(self, user, session_id, client_context):
        context = [client_context.get(name) for name in ("REMOTE_IP", "LOCAL_SERVER", "CLIENT_TYPE")]
        say("session", user, session_id, *context)
        if user == "nosession":
            raise metadata.CreditsError(-8, "no session", "not now")
        if user == "unannounced":
            raise metadata.NotificationError("not this one")
        if user == "single":
            if self.single:
                raise metadata.ConflictingSessionError(-2, "conflict", self.single, "one at a time")
            self.single = session_id

    def notify_session_close(self, session_id):
        if session_id == self.single:
            self.single = None
        say("closed", session_id)

    def get_items(self, user, session_id, group):
        if group == "badgroup":
            raise metadata.ItemsError("bad group")
        if group == "brokengroup":
            raise RuntimeError("out of order")
        return group.split(" ")

    def get_schema(self, user, session_id, group, schema):
        if schema == "badschema":
            raise metadata.SchemaError("bad schema")
        if schema == "brokenschema":
            raise RuntimeError("out of order")
        return schema.split(" ")

    def mode_may_be_allowed(self, item, mode):
        return item != "rawonly" or mode == Mode.RAW

    def ismode_allowed(self, user, item, mode):
        return item != "notforyou" or user != "dan"

    def get_min_source_frequency(self, item):
        return 1.5 if item == "thin" else 0.0

    def get_distinct_snapshot_length(self, item):
        return 3 if item == "trades" else 0

    def get_allowed_buffer_size(self, user, item):
        say("buffer", user, item)
        return 5

    def get_allowed_max_item_frequency(self, user, item):
        return 2.0 if item == "slow" else 0.0

    def notify_new_tables(self, user, session_id, tables):
        for table in tables:
            say("table", session_id, table.win_index, table.mode.name, table.group, table.schema, table.min, table.max, table.selector)
            if table.group == "refused":
                raise metadata.CreditsError(-4, "refused", "not for you")
            if table.group == "unnotified":
                raise metadata.NotificationError("cannot")

    def notify_tables_close(self, session_id, tables):
        for table in tables:
            say("table-closed", session_id, table.win_index, table.group)

    def notify_user_message(self, user, session_id, message):
        say("message", user, message)
        if message == "refuse":
            raise metadata.CreditsError(-1, "refused", "not that")
        if message == "fail":
            raise metadata.NotificationError("cannot")
        if message == "crash":
            raise RuntimeError("out of order")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    context = ssl.create_default_context(cafile=arguments[3]) if len(arguments) > 3 else None
    address = ("localhost" if context else "127.0.0.1", int(arguments[0]))
    server = MetadataProviderServer(Adapter(), address, ssl_context=context)
    if len(arguments) > 2:
        server.remote_user, server.remote_password = arguments[1:3]
    server.start()
    threading.Event().wait()
