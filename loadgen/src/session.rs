//! One session: from the opening of its connection to its updates, over WebSocket, HTTP streaming or long polling, and
//! again after its connection broke. Bytes in, bytes out; no sockets in here.

use std::time::Duration;

use brightwire::wire::ws::{Decoder, Incoming};
use brightwire::wire::ws_client::{self, Handshake};
use engine::tlcp::client::{Line, write_line, write_message};
use engine::tlcp::request::{
    Add, Bandwidth, Bind, Control, Create, Op, Polling, Request, Snapshot, StreamOptions,
};

use crate::http::{self, Piece, ResponseReader};
use crate::rank;
use crate::scenario::{Group, Scenario, SubscriptionMode, Transport};
use crate::stats::Interval;
use crate::tls::Tls;
use crate::update::{self, Glance};
use crate::verify::Verifier;

const PATH: &str = "/lightstreamer";
const PROTOCOL: &str = "TLCP-2.5.0";
const SUBPROTOCOL: &str = "TLCP-2.5.0.lightstreamer.com";
/// The `LS_cid` that the protocol has for clients that are nobody's product.
const CLIENT_ID: &str = "mgQkwtwdysogQz2BJ4Ji kOj2Bg";
/// The only subscription of each session.
const SUB_ID: u32 = 1;
/// Longest message, or line over HTTP, that is taken: far more than a server has reason to send in one.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long a poll may wait for data.
const POLL_IDLE: Duration = Duration::from_secs(19);

/// What all sessions of a run have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is run.
    pub scenario: Scenario,
    /// What follows from it for each group.
    pub groups: Vec<GroupSetup>,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
}

/// What follows from a group's keys.
#[derive(Clone, Debug)]
pub struct GroupSetup {
    /// The position among the fields of the event's time.
    pub stamp_position: Option<usize>,
    /// The position among the fields of the event's number.
    pub sequence_position: Option<usize>,
    /// The number in the run of the group's first item.
    pub first_item: usize,
}

impl Setup {
    /// Works out what follows from a scenario.
    pub fn new(scenario: Scenario) -> Result<Self, String> {
        let authorities = scenario.tls_authorities.as_ref();
        let tls = authorities
            .map(|path| Tls::new(&scenario.server, path, scenario.tls_any_name, None))
            .transpose()?;
        let mut first_item = 0;
        let groups = scenario
            .groups
            .iter()
            .map(|group| {
                let setup = GroupSetup {
                    stamp_position: scenario.timestamp_position(group),
                    sequence_position: scenario.sequence_position(group),
                    first_item,
                };
                first_item += group.items.0.len();
                setup
            })
            .collect();
        Ok(Self {
            scenario,
            groups,
            tls,
        })
    }

    /// Items of all groups; the same name in two groups counts twice.
    pub fn items(&self) -> usize {
        let groups = self.scenario.groups.iter();
        groups.map(|group| group.items.0.len()).sum()
    }
}

/// What sessions report to: the books of one fleet.
pub struct Books {
    /// The second at hand.
    pub interval: Interval,
    /// For each session of the fleet, one after the other, and each item of its group: how far it is.
    pub marks: Vec<Mark>,
    /// Who is served first: of some events, all arrivals.
    pub sample: rank::Sample,
    /// The strict client, if asked for.
    pub verifier: Option<Verifier>,
    /// When the bytes arrived, ns since the Unix epoch.
    pub arrived_ns: u64,
    /// The clock, for bytes that arrived after [`Books::arrived_ns`] was read.
    pub clock_ns: fn() -> u64,
    /// Made into masks of frames.
    pub frames_written: u32,
}

/// How far a session is with one of its items.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// The snapshot is over.
    seen: bool,
    stamp_ns: u64,
    sequence: u64,
}

/// What is to be done for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing to do.
    Same,
    /// The next poll is due after so long.
    Poll(Duration),
}

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// In words that many sessions may share.
    Failed(String),
    /// The server does not have it any more: its client opens another one.
    Forgotten,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With a new session.
    New,
    /// With the session that was there, from where it was.
    Recover,
    /// With the session that was there, which waits for its next poll.
    Bind,
}

/// One session.
pub struct Session {
    /// Its number in the run.
    pub number: u32,
    /// Its group, and its number there.
    pub group: usize,
    /// See `group`.
    pub member: u32,
    /// Where its marks begin.
    pub offset: usize,
    /// What it has to say.
    pub reply: Vec<u8>,
    /// The socket takes nothing at present.
    pub blocked: bool,
    /// It does not read, by intention.
    pub stalled: bool,
    stage: Stage,
    wire: Wire,
    /// Its name at the server.
    id: Option<Box<str>>,
    /// Lines that count for recovery.
    data_lines: u64,
    /// Of those that come next, what is known already.
    repeated: u64,
    /// The server has asked for the next bind.
    looped: Option<u64>,
    /// Its connection is not the first that it had.
    continued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is asked yet, or all is over.
    Idle,
    /// The session is asked for.
    Creating,
    /// The subscription is asked for.
    Subscribing,
    /// Updates are due.
    Live,
    /// It was live, and is to be again.
    Recovering,
}

enum Wire {
    None,
    /// The upgrade is asked for. Boxed with the part of the answer that has come: few sessions are here at a time.
    Upgrading(Box<(Handshake, Vec<u8>)>, Opening),
    WebSocket(Decoder),
    Http(Box<HttpWire>),
}

#[derive(Default)]
struct HttpWire {
    reader: ResponseReader,
    /// The beginning of a line.
    partial: Vec<u8>,
}

impl Session {
    /// A session that is not connected.
    pub fn new(number: u32, group: usize, member: u32, offset: usize) -> Self {
        Self {
            number,
            group,
            member,
            offset,
            reply: Vec::new(),
            blocked: false,
            stalled: false,
            stage: Stage::Idle,
            wire: Wire::None,
            id: None,
            data_lines: 0,
            repeated: 0,
            looped: None,
            continued: false,
        }
    }

    /// A new connection is there, or will be soon: asks for what makes it useful.
    pub fn open(&mut self, opening: Opening, setup: &Setup, books: &mut Books) {
        let group = &setup.scenario.groups[self.group];
        self.reply.clear();
        self.blocked = false;
        self.looped = None;
        self.continued = opening != Opening::New;
        if opening == Opening::New {
            self.id = None;
            self.data_lines = 0;
            self.repeated = 0;
            self.stage = Stage::Creating;
            let marks = self.offset..self.offset + group.items_per_session;
            books.marks[marks.clone()].fill(Mark {
                seen: !group.snapshot,
                ..Mark::default()
            });
            if let Some(verifier) = &mut books.verifier {
                verifier.reset(marks, group.fields.len());
            }
        } else {
            self.stage = Stage::Recovering;
        }
        if group.transport == Transport::Websocket {
            let host = &setup.scenario.server;
            let handshake = Handshake::request(&mut self.reply, host, PATH, SUBPROTOCOL, &[]);
            self.wire = Wire::Upgrading(Box::new((handshake, Vec::new())), opening);
        } else {
            self.wire = Wire::Http(Box::default());
            self.ask(opening, setup, books);
        }
    }

    /// Whether the subscription is active.
    pub fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Whether it is the session that it was before its connection broke.
    pub fn is_continued(&self) -> bool {
        self.continued
    }

    /// Whether there is a session that could be recovered, or must be ended.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The connection is gone: how the next one should begin.
    pub fn closed(&mut self) -> Opening {
        self.wire = Wire::None;
        self.reply = Vec::new();
        let waits = self.looped.is_some();
        let was_live = matches!(self.stage, Stage::Live | Stage::Recovering) && self.id.is_some();
        self.stage = Stage::Idle;
        match (was_live, waits) {
            (false, _) => Opening::New,
            (true, true) => Opening::Bind,
            (true, false) => Opening::Recover,
        }
    }

    /// Whether the server had the right to close the connection: it has said that it waits for the next bind.
    pub fn is_between_polls(&self) -> bool {
        self.is_live() && self.looped.is_some()
    }

    /// Asks for the next poll, or for the next part of a stream.
    pub fn poll(&mut self, setup: &Setup, books: &mut Books) {
        if self.looped.take().is_some() {
            self.ask(Opening::Bind, setup, books);
        }
    }

    /// Takes what arrived.
    pub fn on_bytes(
        &mut self,
        bytes: &mut [u8],
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, Trouble> {
        match &mut self.wire {
            Wire::None => Ok(Progress::Same),
            Wire::Upgrading(upgrade, opening) => {
                let (handshake, answer) = &mut **upgrade;
                answer.extend_from_slice(bytes);
                let judged = handshake
                    .answer(answer)
                    .map_err(|error| Trouble::Failed(error.to_string()))?;
                let Some(head_bytes) = judged else {
                    return Ok(Progress::Same);
                };
                let mut frames = answer.split_off(head_bytes);
                let opening = *opening;
                self.wire = Wire::WebSocket(Decoder::of_server(MESSAGE_BYTES_MAX));
                self.write(books, "", &Request::Wsok);
                self.ask(opening, setup, books);
                self.on_frames(&mut frames, setup, books)
            }
            Wire::WebSocket(_) => self.on_frames(bytes, setup, books),
            Wire::Http(_) => self.on_response(bytes, setup, books),
        }
    }

    /// Asks for the end of the session, where its connection can carry that.
    pub fn destroy(&mut self, books: &mut Books) {
        if self.id.is_some() && matches!(self.wire, Wire::WebSocket(_)) {
            self.write(books, "", &destroy(None));
        }
    }

    fn ask(&mut self, opening: Opening, setup: &Setup, books: &mut Books) {
        let group = &setup.scenario.groups[self.group];
        let host = &setup.scenario.server;
        let stream = stream_options(group);
        if opening == Opening::New {
            let create = create(&setup.scenario, group, stream);
            if group.transport == Transport::Websocket {
                return self.write(books, host, &create);
            }
            // Over HTTP the subscription comes along: there is only one connection, and it will be busy.
            let mut body = Vec::new();
            write_line(&mut body, &create);
            body.extend_from_slice(b"\r\n");
            write_line(&mut body, &subscribe("", group, self.member));
            http::write_request(&mut self.reply, host, "create_session", PROTOCOL, &body);
            self.stage = Stage::Subscribing;
            return;
        }
        let bind = Request::Bind(Bind {
            session: self.id.as_deref().map(|id| id.to_owned().into()),
            recovery_from: (opening == Opening::Recover).then_some(self.data_lines),
            stream,
        });
        self.write(books, host, &bind);
    }

    fn write(&mut self, books: &mut Books, host: &str, request: &Request<'_>) {
        let mut text = Vec::new();
        if let Wire::Http(_) = self.wire {
            write_line(&mut text, request);
            let verb = request.verb().name();
            return http::write_request(&mut self.reply, host, verb, PROTOCOL, &text);
        }
        write_message(&mut text, request);
        let text = str::from_utf8(&text).expect("requests are made of strings");
        ws_client::write_text(&mut self.reply, text, books.mask());
    }

    fn on_frames(
        &mut self,
        mut bytes: &mut [u8],
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, Trouble> {
        // Taken out while it lends a message, put back unless the session is over.
        let Wire::WebSocket(mut decoder) = std::mem::replace(&mut self.wire, Wire::None) else {
            unreachable!("only a WebSocket has frames");
        };
        // Frames are written as those of a WebSocket meanwhile.
        while !bytes.is_empty() {
            let (used, incoming) = decoder
                .next(bytes)
                .map_err(|violation| failed(format!("WebSocket: {}", violation.reason)))?;
            match incoming {
                None => {}
                Some(Incoming::Text(text)) => {
                    books.interval.messages += 1;
                    if !text.ends_with("\r\n") {
                        return Err(failed("a message does not end with CR LF"));
                    }
                    self.on_lines(text, setup, books)?;
                    if self.looped.is_some() {
                        self.poll(setup, books);
                    }
                }
                Some(Incoming::Ping(payload)) => {
                    ws_client::write_pong(&mut self.reply, payload, books.mask());
                }
                Some(Incoming::Pong(_)) => {}
                // The decoder does not read beginnings only, but that is decided elsewhere.
                Some(Incoming::Cut(_)) => return Err(failed("a message above the limit")),
                Some(Incoming::Close(code)) => {
                    return Err(failed(match code {
                        Some(code) => format!("closed by the server with {}", u16::from(code)),
                        None => "closed by the server".into(),
                    }));
                }
            }
            bytes = &mut bytes[used..];
        }
        decoder.free_lent();
        self.wire = Wire::WebSocket(decoder);
        Ok(Progress::Same)
    }

    fn on_response(
        &mut self,
        bytes: &[u8],
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, Trouble> {
        let mut progress = Progress::Same;
        let mut rest = bytes;
        // Taken out while it lends bytes, put back unless the session is over.
        let Wire::Http(mut wire) = std::mem::replace(&mut self.wire, Wire::None) else {
            unreachable!("only HTTP has responses");
        };
        loop {
            let (used, piece) = wire.reader.next(rest).map_err(Trouble::Failed)?;
            rest = &rest[used..];
            match piece {
                Piece::Body(body) => {
                    books.interval.messages += 1;
                    self.on_body(body, &mut wire.partial, setup, books)?;
                }
                Piece::End => {
                    if !wire.partial.is_empty() {
                        return Err(failed("a response does not end with CR LF"));
                    }
                    let Some(millis) = self.looped else {
                        return Err(failed("a response has ended without LOOP"));
                    };
                    progress = Progress::Poll(Duration::from_millis(millis));
                }
                Piece::More if used == 0 && rest.is_empty() => break,
                Piece::More => {}
            }
            if rest.is_empty() && wire.reader.is_idle() {
                break;
            }
        }
        if wire.partial.is_empty() {
            wire.partial = Vec::new(); // a session between lines owns no buffer
        }
        self.wire = Wire::Http(wire);
        Ok(progress)
    }

    /// A part of a body: whole lines are read, the rest is kept.
    fn on_body(
        &mut self,
        body: &[u8],
        partial: &mut Vec<u8>,
        setup: &Setup,
        books: &mut Books,
    ) -> Result<(), Trouble> {
        let end = memchr::memrchr(b'\n', body).map_or(0, |at| at + 1);
        let (whole, begun) = body.split_at(end);
        if !whole.is_empty() && partial.is_empty() {
            self.on_lines(text(whole)?, setup, books)?;
        } else if !whole.is_empty() {
            partial.extend_from_slice(whole);
            let lines = std::mem::take(partial);
            self.on_lines(text(&lines)?, setup, books)?;
        }
        partial.extend_from_slice(begun);
        if partial.len() > MESSAGE_BYTES_MAX {
            return Err(failed("a line does not end"));
        }
        Ok(())
    }

    fn on_lines(&mut self, lines: &str, setup: &Setup, books: &mut Books) -> Result<(), Trouble> {
        let mut taken = 0;
        for line in update::lines(lines.as_bytes()) {
            let range = taken..taken + line.len();
            taken = range.end + 2;
            if line.starts_with(b"U,") {
                if self.stage != Stage::Live {
                    return Err(failed("an update came before its subscription"));
                }
                if self.repeated > 0 {
                    self.repeated -= 1;
                    continue;
                }
                self.data_lines += 1;
                self.on_update(line, &lines[range], setup, books)?;
            } else {
                self.on_line(&lines[range], setup, books)?;
            }
        }
        if taken != lines.len() {
            return Err(failed("a line does not end with CR LF"));
        }
        Ok(())
    }

    fn on_update(
        &mut self,
        line: &[u8],
        text: &str,
        setup: &Setup,
        books: &mut Books,
    ) -> Result<(), Trouble> {
        let group = &setup.scenario.groups[self.group];
        let GroupSetup {
            stamp_position,
            sequence_position,
            first_item,
        } = setup.groups[self.group];
        let glance = update::glance(line, stamp_position, sequence_position)
            .filter(|glance| glance.item < group.items_per_session)
            .ok_or_else(|| failed("a U line is broken"))?;
        let row = self.offset + glance.item;
        let mark = &mut books.marks[row];
        let interval = &mut books.interval;
        interval.updates += 1;
        let is_snapshot = !mark.seen;
        mark.seen |= group.mode == SubscriptionMode::Merge;
        let skipped = note_order(mark, &glance, is_snapshot, interval);
        let of_group = interval.of(self.group, group.transport);
        of_group.updates += 1;
        of_group.skipped += skipped;
        if is_snapshot {
            interval.snapshots += 1;
        } else if let (Some(stamp_ns), false) = (glance.stamp_ns, self.stalled) {
            if stamp_ns > books.arrived_ns {
                // Arrived while the poll before was being worked on; the clock then read is too old for it.
                books.arrived_ns = (books.clock_ns)();
            }
            if books.sample.wants(stamp_ns) {
                let item = item_of(group, self.member, glance.item) % group.items.0.len();
                books.sample.note(rank::Arrival {
                    item: (first_item + item) as u64,
                    stamp_ns,
                    arrived_ns: books.arrived_ns,
                });
            }
            match books.arrived_ns.checked_sub(stamp_ns) {
                Some(latency_ns) => interval.time(self.group, group.transport, latency_ns),
                None => interval.from_future += 1,
            }
        } else {
            interval.untimed += 1;
        }
        if let Some(verifier) = &mut books.verifier {
            match Line::parse(text) {
                Ok(Line::Update { sub_id, values, .. }) if sub_id == SUB_ID => {
                    verifier.apply(row, values);
                }
                Ok(_) => return Err(failed("an update of another subscription")),
                Err(error) => return Err(failed(format!("a line cannot be read: {error}"))),
            }
        }
        Ok(())
    }

    fn on_line(&mut self, text: &str, setup: &Setup, books: &mut Books) -> Result<(), Trouble> {
        let group = &setup.scenario.groups[self.group];
        let line = Line::parse(text)
            .map_err(|error| failed(format!("a line cannot be read: {error}: {text}")))?;
        if line.is_data_line() {
            if self.repeated > 0 {
                self.repeated -= 1;
                return Ok(());
            }
            self.data_lines += 1;
        }
        match line {
            Line::Conok { session_id, .. } => match self.stage {
                Stage::Creating => {
                    self.id = Some(session_id.into());
                    self.stage = Stage::Subscribing;
                    let subscribe = subscribe("1", group, self.member);
                    self.write(books, "", &subscribe);
                }
                Stage::Subscribing if self.id.is_none() => self.id = Some(session_id.into()),
                Stage::Recovering => self.stage = Stage::Live,
                // The next poll, or the next part of a stream.
                Stage::Live | Stage::Subscribing => {}
                Stage::Idle => return Err(failed(format!("out of place: {text}"))),
            },
            Line::Prog { data_lines } => {
                self.repeated = self
                    .data_lines
                    .checked_sub(data_lines)
                    .ok_or_else(|| failed("recovered with a gap"))?;
            }
            Line::Subok {
                sub_id: SUB_ID,
                items,
                fields,
            }
            | Line::Subcmd {
                sub_id: SUB_ID,
                items,
                fields,
                ..
            } if self.stage == Stage::Subscribing => {
                if (items as usize, fields as usize)
                    != (group.items_per_session, group.fields.len())
                {
                    return Err(failed(format!(
                        "subscribed to {items} items and {fields} fields, not as asked"
                    )));
                }
                self.stage = Stage::Live;
            }
            Line::Ov { lost, .. } => {
                let lost = u64::from(lost);
                books.interval.lost += lost;
                books.interval.of(self.group, group.transport).lost += lost;
            }
            Line::Eos { item, .. } => {
                let item = (item as usize).wrapping_sub(1);
                if item < group.items_per_session {
                    books.marks[self.offset + item].seen = true;
                }
            }
            Line::Loop { millis } => self.looped = Some(millis),
            Line::Conerr { code: 4 | 20, .. } if self.stage == Stage::Recovering => {
                return Err(Trouble::Forgotten);
            }
            Line::Conerr { code, text } => {
                return Err(failed(format!("session refused: {code} {text}")));
            }
            Line::Reqerr { code, text, .. } | Line::Error { code, text } => {
                return Err(failed(format!("request refused: {code} {text}")));
            }
            Line::End { code, text } => {
                return Err(failed(format!("session ended: {code} {text}")));
            }
            Line::Subok { .. } | Line::Subcmd { .. } | Line::Unsub { .. } => {
                return Err(failed(format!("out of place: {text}")));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Books {
    /// Another mask for each frame, as the protocol asks. It need not be secret: no proxy can be fooled by a text that
    /// we choose ourselves.
    fn mask(&mut self) -> [u8; 4] {
        self.frames_written = self.frames_written.wrapping_add(1);
        // The golden ratio, by which consecutive numbers are spread over all bits.
        self.frames_written.wrapping_mul(0x9E37_79B9).to_ne_bytes()
    }
}

/// What is missing, and what came in the wrong order. Returns how many events are missing before this one.
fn note_order(mark: &mut Mark, glance: &Glance, is_snapshot: bool, interval: &mut Interval) -> u64 {
    let mut skipped = 0;
    let gone_back = match (glance.sequence, glance.stamp_ns) {
        (Some(sequence), _) => {
            interval.numbered += 1;
            let before = mark.sequence;
            mark.sequence = before.max(sequence);
            if before > 0 && sequence > before && !is_snapshot {
                skipped = sequence - before - 1;
            }
            before > 0 && sequence <= before
        }
        (None, Some(stamp_ns)) => {
            let before = mark.stamp_ns;
            mark.stamp_ns = before.max(stamp_ns);
            stamp_ns < before
        }
        (None, None) => false,
    };
    interval.skipped += skipped;
    interval.reordered += u64::from(gone_back && !is_snapshot);
    skipped
}

/// The number among the group's items of what a member has at a position; to be taken modulo their count.
pub fn item_of(group: &Group, member: u32, position: usize) -> usize {
    member as usize * group.items_per_session + position
}

fn text(bytes: &[u8]) -> Result<&str, Trouble> {
    str::from_utf8(bytes).map_err(|_| failed("a line is not UTF-8"))
}

fn failed(reason: impl Into<String>) -> Trouble {
    Trouble::Failed(reason.into())
}

fn stream_options(group: &Group) -> StreamOptions {
    let polling = (group.transport == Transport::LongPolling).then(|| Polling {
        polling_millis: group.poll_pause.duration().as_millis() as u64,
        idle_millis: POLL_IDLE.as_millis() as u64,
    });
    StreamOptions {
        polling,
        ..StreamOptions::default()
    }
}

fn create<'a>(scenario: &'a Scenario, group: &Group, stream: StreamOptions) -> Request<'a> {
    Request::Create(Create {
        adapter_set: Some(scenario.adapter_set.as_str().into()),
        cid: Some(CLIENT_ID.into()),
        bandwidth: group.bandwidth.map(Bandwidth::Limited),
        // Differences are the server's choice, and the quick look does not know them.
        supported_diffs: Some("".into()),
        stream,
        ..Create::default()
    })
}

fn subscribe<'a>(req_id: &'a str, group: &'a Group, member: u32) -> Request<'a> {
    let names = (0..group.items_per_session).map(|position| {
        let items = &group.items.0;
        items[item_of(group, member, position) % items.len()].as_str()
    });
    let add = Add {
        sub_id: SUB_ID,
        data_adapter: Some(group.data_adapter.as_str().into()),
        group: names.collect::<Vec<_>>().join(" ").into(),
        schema: group.fields.join(" ").into(),
        selector: None,
        mode: group.mode.into(),
        snapshot: if group.snapshot {
            Snapshot::Yes
        } else {
            Snapshot::No
        },
        frequency: group.frequency.0,
        buffer_size: group.buffer.map(|buffer| buffer.0),
        ack: req_id.is_empty(),
    };
    Request::Control(Control {
        req_id: req_id.into(),
        session: None,
        op: Op::Add(add),
    })
}

/// Ends a session: of this connection, or the one named.
pub fn destroy(session: Option<&str>) -> Request<'_> {
    Request::Control(Control {
        req_id: "2".into(),
        session: session.map(Into::into),
        op: Op::Destroy {
            cause_code: None,
            cause_message: None,
            close_socket: false,
        },
    })
}

#[cfg(test)]
mod tests;
