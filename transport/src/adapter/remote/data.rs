//! The proxy of a remote data adapter: subscriptions out, events in, whether the remote is there or not.
//!
//! | The remote | Items |
//! |---|---|
//! | has not come yet, or has gone | are wanted all the same; a snapshot that clients wait for is ended, empty |
//! | comes | each wanted item is asked for, under a new id |
//! | refuses an item | clients are not told: the item has no data until all have left it and one comes again |
//! | does not answer in time | that is said, and what it then has to say of the item is heard all the same |
//! | speaks of an item under another id than the latest, or of one never asked for | is not heard |
//! | speaks faster than ingest takes | is not read until there is room in the feed's ring |
//!
//! What a remote does wrong is said in the log once per connection and kind; the rest is counted.

use super::items::{Items, read_id};
use super::lines::LineBuffer;
use super::meet::{Door, Link};
use super::trouble::{Loss, Trouble, Troubles};
use crate::adapter::feed::{Feed, FeedCommand, FeedError};
use crate::config::plan::{EventsRecovery, OnLoss, RemotePlan};
use crate::runtime::host::{Host, Waiter};
use engine::ari::data::{self, DiffKind, DiffOrder, Event, FromData, PlainFields, PlainUpdate};
use engine::ari::exception::{Exception, Kind};
use engine::ari::{Encoding, Line, read_line};
use engine::ids::ItemId;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Requests that wait to be written before no more subscriptions are taken from ingest. (guess)
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The field of the status item.
const STATUS_FIELD: &str = "status";

/// One remote data adapter, from the server's start to its end.
pub(super) struct DataProxy {
    pub door: Door,
    pub desk: Desk,
    pub waiter: Waiter,
}

/// Why a remote is served no more.
enum End {
    /// The server stops.
    Stopped,
    /// The remote is gone, or had to go.
    Lost(Loss),
}

impl DataProxy {
    /// Serves one remote after the other until the server stops. An error is for the server to stop.
    pub async fn run(mut self) -> Result<(), String> {
        let host = self.door.host.clone();
        let adapter = self.door.adapter.clone();
        loop {
            let init_id = self.desk.items.next_id();
            let init_id = format!("{init_id:x}");
            let met = async { Some(self.door.meet(&init_id).await) };
            let idle = async {
                self.desk.without_remote(&mut self.waiter, None).await;
                None
            };
            match smol::future::or(met, idle).await {
                None => return Ok(()),
                Some(Err(refused)) => {
                    let until = Some(Instant::now() + self.door.pause_after(&refused)?);
                    if !self.desk.without_remote(&mut self.waiter, until).await {
                        return Ok(());
                    }
                }
                Some(Ok(mut link)) => {
                    tracing::info!(adapter, remote = link.who, "a remote data adapter is there");
                    self.door.wait_for_first.clear();
                    self.desk.connected(&link);
                    let end = self.desk.serve(&mut link, &mut self.waiter, &host).await;
                    let reason = match end {
                        End::Stopped => {
                            link.farewell(&host, "server shutdown").await;
                            return Ok(());
                        }
                        End::Lost(loss) => loss.to_string(),
                    };
                    let troubles = self.desk.troubles.summary();
                    tracing::warn!(
                        adapter,
                        "the remote data adapter is lost: {reason}{troubles}"
                    );
                    if self.door.plan.on_loss == OnLoss::Stop {
                        link.farewell(&host, &reason).await;
                        return Err(format!("{adapter}: {reason}"));
                    }
                    let leaver = host.clone();
                    host.spawn(async move { link.farewell(&leaver, &reason).await });
                    if !self.desk.lost(&mut self.waiter).await {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The items of the adapter and its feed.
pub(super) struct Desk {
    feed: Feed,
    items: Items,
    /// Items that a remote which has just come is still to be asked for. May name items that are gone.
    to_ask: VecDeque<ItemId>,
    /// Requests without a reply.
    open: HashMap<u64, Open>,
    /// The same, by age; may name answered ones.
    deadlines: VecDeque<(Instant, u64)>,
    status: Status,
    troubles: Troubles,
    events_recovery: EventsRecovery,
    timeout: Duration,
    keepalive_timeout: Option<Duration>,
    encoding: Encoding,
    /// The remote was not read for a while, as ingest had no room.
    deaf: bool,
}

/// A request without a reply.
struct Open {
    /// The request is a `SUB`.
    subscribes: bool,
    name: Box<str>,
}

/// The status item.
struct Status {
    name: Option<String>,
    item: Option<ItemId>,
    text: &'static str,
}

impl Desk {
    pub fn new(feed: Feed, door: &RemotePlan, adapter: &str) -> Self {
        Self {
            feed,
            items: Items::new(),
            to_ask: VecDeque::new(),
            open: HashMap::new(),
            deadlines: VecDeque::new(),
            status: Status {
                name: door.status_item.clone(),
                item: None,
                text: "connecting",
            },
            troubles: Troubles::new(adapter),
            events_recovery: door.events_recovery,
            timeout: door.timeout,
            keepalive_timeout: door.keepalive_timeout,
            encoding: Encoding::Old,
            deaf: false,
        }
    }

    /// See [`super::probe`].
    pub fn probe_subscribe(&mut self, item: ItemId, name: &str) -> u64 {
        self.encoding = Encoding::Smart;
        self.items.insert(item, name.to_owned());
        let subscribed = self.items.subscribe(item);
        subscribed.expect("it was just put there").0
    }

    /// See [`super::probe`]. What does not fit the ring is lost.
    pub fn probe_lines(&mut self, lines: &mut LineBuffer) {
        while let Ok(Some(Ok(line))) = lines.next_line() {
            let _ = self.take_line(line);
        }
        self.feed.commit();
    }

    /// Takes commands while there is no remote; `false` when the server stops.
    async fn without_remote(&mut self, waiter: &mut Waiter, until: Option<Instant>) -> bool {
        loop {
            while let Some(command) = self.feed.look_for_command() {
                match command {
                    FeedCommand::Stop => return false,
                    FeedCommand::Unsubscribe { item } => {
                        self.items.remove(item);
                        self.status.forget(item);
                    }
                    FeedCommand::Subscribe { item, name, .. } => {
                        if self.status.is(&name) {
                            self.status.item = Some(item);
                            if !self.tell_status(true, waiter).await {
                                return false;
                            }
                            continue;
                        }
                        self.items.insert(item, name);
                        if !self.end_snapshot(item, waiter).await {
                            return false;
                        }
                    }
                }
            }
            let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
            if wait.is_some_and(|wait| wait.is_zero()) {
                return true;
            }
            // An error would mean that the host is being taken down.
            if waiter.wait(wait).await.is_err() {
                return false;
            }
        }
    }

    /// A remote is there: it is asked for all that is wanted.
    fn connected(&mut self, link: &Link) {
        self.encoding = link.dialect.encoding;
        self.troubles.clear();
        self.status.text = "connected";
        let leave_hole = self.events_recovery == EventsRecovery::LeaveHole;
        self.to_ask.clear();
        for wanted in self.items.iter_mut() {
            // What waits for its first snapshot gets it, whatever the policy.
            wanted.hole = leave_hole && !wanted.awaits_snapshot;
            self.to_ask.push_back(wanted.item);
        }
    }

    /// The remote is gone. `false` when the server stops.
    async fn lost(&mut self, waiter: &mut Waiter) -> bool {
        self.to_ask.clear();
        self.open.clear();
        self.deadlines.clear();
        self.status.text = "reconnecting";
        if !self.tell_status(false, waiter).await {
            return false;
        }
        let items: Vec<ItemId> = self.items.iter_mut().map(|wanted| wanted.item).collect();
        for item in items {
            let wanted = self.items.get_mut(item).expect("just listed");
            wanted.subscription = None;
            let heard = std::mem::take(&mut wanted.heard);
            if wanted.awaits_snapshot && !self.end_snapshot(item, waiter).await {
                return false;
            }
            if heard && self.events_recovery == EventsRecovery::EnforceSnapshot {
                let clear = |feed: &mut Feed| feed.clear_snapshot(item);
                if !insist(&mut self.feed, waiter, clear).await {
                    return false;
                }
            }
        }
        true
    }

    /// Serves a remote until it is gone or the server stops.
    async fn serve(&mut self, link: &mut Link, waiter: &mut Waiter, host: &Host) -> End {
        if !self.tell_status(false, waiter).await {
            return End::Stopped;
        }
        loop {
            if !self.take_commands(link, waiter).await {
                return End::Stopped;
            }
            for lines in [Some(&mut link.requests), link.notifications.as_mut()]
                .into_iter()
                .flatten()
            {
                if let Err(end) = self.take_lines(lines.incoming(), waiter).await {
                    return end;
                }
            }
            self.feed.commit();
            let now = Instant::now();
            if std::mem::take(&mut self.deaf) {
                // It may have spoken while nobody listened.
                link.requests.heard = now;
                if let Some(lines) = &mut link.notifications {
                    lines.heard = now;
                }
            }
            self.time_out(now);
            let silent_since = [Some(&link.requests), link.notifications.as_ref()]
                .into_iter()
                .flatten()
                .map(|lines| lines.heard)
                .min();
            let silence_ends = silent_since
                .zip(self.keepalive_timeout)
                .map(|(since, wait)| since + wait);
            if silence_ends.is_some_and(|at| at <= now) {
                return End::Lost(Loss::Silent);
            }
            let deadline = self.deadlines.front().map(|(at, _)| *at);
            let wait = [deadline, silence_ends].into_iter().flatten().min();
            let wait = wait.map(|at| at.saturating_duration_since(now));
            // Others on this thread have their turn, however much this remote has to say.
            host.yield_now().await;
            let turn = async {
                link.turn()
                    .await
                    .map_err(|broken| End::Lost(Loss::Broken(broken)))
            };
            let woken = async { waiter.wait(wait).await.map(drop).map_err(|_| End::Stopped) };
            if let Err(end) = smol::future::or(turn, woken).await {
                return end;
            }
        }
    }

    async fn take_commands(&mut self, link: &mut Link, waiter: &mut Waiter) -> bool {
        while link.requests.out.len() < REQUEST_BYTES_MAX {
            if let Some(item) = self.to_ask.pop_front() {
                let wanted = self.items.get_mut(item);
                if wanted.is_some_and(|wanted| wanted.subscription.is_none()) {
                    self.subscribe(item, link);
                }
                continue;
            }
            match self.feed.look_for_command() {
                None => break,
                Some(FeedCommand::Stop) => return false,
                Some(FeedCommand::Unsubscribe { item }) => self.unsubscribe(item, link),
                Some(FeedCommand::Subscribe { item, name, .. }) if self.status.is(&name) => {
                    self.status.item = Some(item);
                    if !self.tell_status(true, waiter).await {
                        return false;
                    }
                }
                Some(FeedCommand::Subscribe { item, name, .. }) => {
                    self.items.insert(item, name);
                    self.subscribe(item, link);
                }
            }
        }
        !self.feed.is_stopped()
    }

    fn subscribe(&mut self, item: ItemId, link: &mut Link) {
        let Some((id, wanted)) = self.items.subscribe(item) else {
            return;
        };
        data::subscribe(
            &mut link.requests.out,
            &format!("{id:x}"),
            &wanted.name,
            self.encoding,
        );
        let open = Open {
            subscribes: true,
            name: wanted.name.clone(),
        };
        self.open.insert(id, open);
        self.deadlines
            .push_back((Instant::now() + self.timeout, id));
    }

    fn unsubscribe(&mut self, item: ItemId, link: &mut Link) {
        self.status.forget(item);
        let Some(wanted) = self.items.remove(item) else {
            return;
        };
        // What was refused is not unsubscribed from.
        if wanted.subscription.is_none() {
            return;
        }
        let id = self.items.next_id();
        data::unsubscribe(
            &mut link.requests.out,
            &format!("{id:x}"),
            &wanted.name,
            self.encoding,
        );
        let open = Open {
            subscribes: false,
            name: wanted.name,
        };
        self.open.insert(id, open);
        self.deadlines
            .push_back((Instant::now() + self.timeout, id));
    }

    /// Takes the lines that are there.
    async fn take_lines(&mut self, lines: &mut LineBuffer, waiter: &mut Waiter) -> Result<(), End> {
        loop {
            let line = match lines.next_line() {
                Ok(Some(Ok(line))) => line,
                Ok(Some(Err(not_text))) => {
                    self.troubles.note(Trouble::Malformed, &not_text);
                    continue;
                }
                Ok(None) => return Ok(()),
                Err(broken) => return Err(End::Lost(Loss::Broken(broken))),
            };
            loop {
                match self.take_line(line) {
                    Ok(()) => break,
                    Err(Stop::Full) => {
                        self.deaf = true;
                        if !room(&mut self.feed, waiter).await {
                            return Err(End::Stopped);
                        }
                    }
                    Err(Stop::Stopped) => return Err(End::Stopped),
                    Err(Stop::Failed(exception)) => return Err(End::Lost(Loss::Failed(exception))),
                }
            }
        }
    }

    fn take_line(&mut self, line: &str) -> Result<(), Stop> {
        if let Some(update) = data::read_plain_update(line, self.encoding) {
            let PlainUpdate {
                item,
                subscription,
                snapshot,
                fields,
            } = &update;
            return self.event(item, subscription, Said::Update(*snapshot, fields));
        }
        let (id, message) = match read_line(line) {
            Ok(Line::Keepalive) => return Ok(()),
            Ok(Line::Message { id, method, tokens }) => {
                (id, data::read(method, tokens, self.encoding))
            }
            Err(why) => {
                self.troubles.note(Trouble::Malformed, &why);
                return Ok(());
            }
        };
        match message {
            Ok(Some(FromData::Notification {
                item,
                subscription,
                event,
            })) => match event {
                Event::Update { snapshot, fields } => {
                    let fields: PlainFields<'_> = fields
                        .iter()
                        .map(|(name, value)| (&**name, value.as_deref()))
                        .collect();
                    self.event(&item, subscription, Said::Update(snapshot, &fields))
                }
                Event::EndOfSnapshot => self.event(&item, subscription, Said::EndOfSnapshot),
                Event::ClearSnapshot => self.event(&item, subscription, Said::ClearSnapshot),
                Event::DiffOrder(orders) => {
                    self.event(&item, subscription, Said::DiffOrder(&orders))
                }
            },
            Ok(Some(FromData::Subscribed(result))) => self.subscribed(id, result),
            Ok(Some(FromData::Unsubscribed(result))) => self.unsubscribed(id, result),
            Ok(Some(FromData::Failed(exception))) => Err(Stop::Failed(exception)),
            Ok(None) if line.contains("|RAC|") => Ok(()), // it introduces itself late
            Ok(None) => {
                self.troubles.note(Trouble::Malformed, &"an unknown method");
                Ok(())
            }
            Err(why) => {
                self.troubles.note(Trouble::Malformed, &why);
                Ok(())
            }
        }
    }

    #[inline]
    fn event(&mut self, name: &str, subscription: &str, said: Said<'_>) -> Result<(), Stop> {
        let wanted = read_id(subscription).and_then(|id| self.items.subscribed(id));
        let Some(wanted) = wanted.filter(|wanted| *wanted.name == *name) else {
            self.troubles.note(Trouble::Stale, &name);
            return Ok(());
        };
        let item = wanted.item;
        let fed = match said {
            Said::Update(true, _) if wanted.hole => return Ok(()),
            Said::Update(snapshot, fields) => self.feed.update(item, snapshot, fields),
            Said::EndOfSnapshot => self.feed.end_of_snapshot(item),
            Said::ClearSnapshot => self.feed.clear_snapshot(item),
            Said::DiffOrder(orders) => {
                let fields: Vec<_> = orders
                    .iter()
                    .filter_map(|(name, order)| Some((&**name, Some(letters(order)?))))
                    .collect();
                let declared = self.feed.differences(item, fields.into_iter());
                return declared.or_else(|error| self.not_fed(error));
            }
        };
        if let Err(error) = fed {
            return self.not_fed(error);
        }
        wanted.heard = true;
        if !matches!(said, Said::Update(true, _)) {
            wanted.awaits_snapshot = false;
            wanted.hole = false;
        }
        Ok(())
    }

    /// An event was not taken. One that is too large is left out.
    fn not_fed(&mut self, error: FeedError) -> Result<(), Stop> {
        match error {
            FeedError::Full => Err(Stop::Full),
            FeedError::Stopped => Err(Stop::Stopped),
            FeedError::TooLarge { .. } => {
                self.troubles.note(Trouble::TooLarge, &error);
                Ok(())
            }
        }
    }

    fn subscribed(&mut self, id: &str, result: Result<(), Exception>) -> Result<(), Stop> {
        let Some((id, open)) = self.answered(id) else {
            return Ok(());
        };
        let Err(exception) = result else {
            return Ok(());
        };
        if exception.kind == Kind::Failure {
            return Err(Stop::Failed(exception));
        }
        // Remotes that are behind refuse what is obsolete anyway: only what is still wanted is worth a word.
        if self.items.subscribed(id).is_some() {
            let what = format!("{}: {}", open.name, exception.message);
            let trouble = match exception.kind {
                Kind::Subscription => Trouble::Refused,
                _ => Trouble::Failed,
            };
            self.troubles.note(trouble, &what);
        }
        // What comes of it is not heard.
        if let Some(wanted) = self.items.subscribed(id) {
            wanted.subscription = None;
        }
        Ok(())
    }

    fn unsubscribed(&mut self, id: &str, result: Result<(), Exception>) -> Result<(), Stop> {
        let _ = self.answered(id);
        match result {
            Err(exception) if exception.kind == Kind::Failure => Err(Stop::Failed(exception)),
            _ => Ok(()), // a failure changes nothing: the item is not listened to any more
        }
    }

    fn answered(&mut self, id: &str) -> Option<(u64, Open)> {
        let found = read_id(id).and_then(|id| Some((id, self.open.remove(&id)?)));
        if found.is_none() {
            self.troubles.note(Trouble::LateReply, &id);
        }
        found
    }

    fn time_out(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.deadlines.front() {
            if at > now && self.open.contains_key(&id) {
                return;
            }
            self.deadlines.pop_front();
            // Some SDKs never answer a subscription that was obsolete when they came to it. One that is in force stays
            // so: an adapter that is asked for many items at once may come to this one later.
            let open = self.open.remove(&id).filter(|open| open.subscribes);
            if let Some(open) = open
                && self.items.subscribed(id).is_some()
            {
                self.troubles.note(Trouble::NoReply, &open.name);
            }
        }
    }

    /// Nothing is known of the item: whoever waits for its snapshot shall not wait for ever.
    async fn end_snapshot(&mut self, item: ItemId, waiter: &mut Waiter) -> bool {
        if let Some(wanted) = self.items.get_mut(item) {
            wanted.awaits_snapshot = false;
        }
        insist(&mut self.feed, waiter, |feed| feed.end_of_snapshot(item)).await
    }

    async fn tell_status(&mut self, snapshot: bool, waiter: &mut Waiter) -> bool {
        let Some(item) = self.status.item else {
            return true;
        };
        let text = self.status.text;
        let update = |feed: &mut Feed| feed.update(item, snapshot, &[(STATUS_FIELD, Some(text))]);
        if !insist(&mut self.feed, waiter, update).await {
            return false;
        }
        !snapshot || insist(&mut self.feed, waiter, |feed| feed.end_of_snapshot(item)).await
    }
}

impl Status {
    fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    fn forget(&mut self, item: ItemId) {
        if self.item == Some(item) {
            self.item = None;
        }
    }
}

/// The letters of formats, as clients know them; `None` if the adapter has nothing to say.
fn letters(order: &DiffOrder) -> Option<&'static str> {
    let DiffOrder::Try(kinds) = order else {
        return None;
    };
    let text = |kind: &DiffKind| *kind == DiffKind::DiffMatchPatch;
    Some(match kinds.as_slice() {
        [] => "",
        [first, rest @ ..] => match (
            text(first),
            rest.iter().any(|kind| text(kind) != text(first)),
        ) {
            (false, false) => "P",
            (false, true) => "PT",
            (true, false) => "T",
            (true, true) => "TP",
        },
    })
}

/// What is said of an item.
enum Said<'a> {
    /// Whether it belongs to the snapshot, and fields.
    Update(bool, &'a [(&'a str, Option<&'a str>)]),
    EndOfSnapshot,
    ClearSnapshot,
    DiffOrder(&'a [(Cow<'a, str>, DiffOrder)]),
}

/// Why a line was not taken.
enum Stop {
    /// The feed's ring has no room now.
    Full,
    /// The server stops.
    Stopped,
    /// The adapter as a whole has failed.
    Failed(Exception),
}

/// Waits until the feed can take any event; `false` when the server stops. Meanwhile the remote is not read: what it
/// sends fills the kernel's buffers, and then it waits.
async fn room(feed: &mut Feed, waiter: &mut Waiter) -> bool {
    while !feed.has_room() {
        if feed.is_stopped() || waiter.wait(None).await.is_err() {
            return false;
        }
    }
    !feed.is_stopped()
}

/// Makes the attempt until the feed has room for it; `false` when the server stops.
async fn insist(
    feed: &mut Feed,
    waiter: &mut Waiter,
    attempt: impl Fn(&mut Feed) -> Result<(), FeedError>,
) -> bool {
    loop {
        match attempt(feed) {
            Err(FeedError::Full) => {
                if !room(feed, waiter).await {
                    return false;
                }
            }
            Err(FeedError::Stopped) => return false,
            Ok(()) | Err(FeedError::TooLarge { .. }) => return true,
        }
    }
}
