//! One session: from the upgrade of its connection to its updates. Bytes in, bytes out; no sockets in here.

use brightwire::wire::ws::{Decoder, Incoming};
use brightwire::wire::ws_client::{self, Handshake};
use engine::tlcp::client::{Line, write_message};
use engine::tlcp::request::{
    Add, Control, Create, Frequency, Mode, Op, Request, Snapshot, StreamOptions,
};

use crate::stats::Window;
use crate::update;
use crate::verify::Verifier;

const PATH: &str = "/lightstreamer";
const SUBPROTOCOL: &str = "TLCP-2.5.0.lightstreamer.com";
/// The `LS_cid` that the protocol has for clients that are nobody's product.
const CLIENT_ID: &str = "mgQkwtwdysogQz2BJ4Ji kOj2Bg";
/// The only subscription of each session.
const SUB_ID: u32 = 1;
/// Longest message that is taken: far more than a server has reason to send in one.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What all sessions of a run have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `Host` header.
    pub host: String,
    /// Adapter set.
    pub adapter_set: String,
    /// Data adapter.
    pub data_adapter: String,
    /// Names of all items.
    pub items: Vec<String>,
    /// How many of them a session subscribes to.
    pub items_per_session: usize,
    /// Fields, in the order of the schema.
    pub fields: Vec<String>,
    /// Frequency to ask for.
    pub frequency: Frequency,
    /// The position among the fields of the event's time.
    pub stamp_position: Option<usize>,
}

/// What sessions report to: the books of one fleet.
pub struct Books {
    /// Counts.
    pub window: Window,
    /// For each session of the fleet and each item of its group: an update has come.
    pub seen: Vec<bool>,
    /// The strict client, if asked for.
    pub verifier: Option<Verifier>,
    /// When the bytes arrived, ns since the Unix epoch.
    pub arrived_ns: u64,
    /// The clock, for bytes that arrived after [`Books::arrived_ns`] was read.
    pub clock_ns: fn() -> u64,
    /// Made into masks of frames.
    pub frames_written: u32,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// No further than before.
    Same,
    /// It is subscribed now.
    Live,
}

/// One session.
pub struct Session {
    /// Its number in the run.
    pub number: u32,
    /// Its number in the fleet.
    pub local: usize,
    /// What it has to say.
    pub reply: Vec<u8>,
    /// The socket takes nothing at present.
    pub blocked: bool,
    /// It does not read, by intention.
    pub stalled: bool,
    stage: Stage,
    decoder: Decoder,
}

enum Stage {
    /// The upgrade is asked for. Boxed with the part of the answer that has come: few sessions are here at a time.
    Upgrading(Box<(Handshake, Vec<u8>)>),
    /// `create_session` is sent.
    Creating,
    /// The subscription is asked for.
    Subscribing,
    /// Updates are due.
    Live,
}

impl Session {
    /// A session that asks for the upgrade.
    pub fn new(setup: &Setup, number: u32, local: usize) -> Self {
        let mut reply = Vec::new();
        let handshake = Handshake::request(&mut reply, &setup.host, PATH, SUBPROTOCOL, &[]);
        Self {
            number,
            local,
            reply,
            blocked: false,
            stalled: false,
            stage: Stage::Upgrading(Box::new((handshake, Vec::new()))),
            decoder: Decoder::of_server(MESSAGE_BYTES_MAX),
        }
    }

    /// Whether the subscription is active.
    pub fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live)
    }

    /// Takes what arrived. An error is the end of the session, in words that many sessions may share.
    pub fn on_bytes(
        &mut self,
        bytes: &mut [u8],
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, String> {
        if let Stage::Upgrading(upgrade) = &mut self.stage {
            let (handshake, answer) = &mut **upgrade;
            answer.extend_from_slice(bytes);
            let Some(head_bytes) = handshake
                .answer(answer)
                .map_err(|error| error.to_string())?
            else {
                return Ok(Progress::Same);
            };
            let mut frames = answer.split_off(head_bytes);
            self.stage = Stage::Creating;
            self.write(books, &Request::Wsok);
            self.write(books, &create(setup));
            return self.on_frames(&mut frames, setup, books);
        }
        self.on_frames(bytes, setup, books)
    }

    /// Asks for the end of the session.
    pub fn destroy(&mut self, books: &mut Books) {
        if matches!(self.stage, Stage::Subscribing | Stage::Live) {
            let destroy = Op::Destroy {
                cause_code: None,
                cause_message: None,
                close_socket: false,
            };
            self.write(books, &control("2", destroy));
        }
    }

    fn write(&mut self, books: &mut Books, request: &Request<'_>) {
        let mut text = Vec::new();
        write_message(&mut text, request);
        let text = str::from_utf8(&text).expect("requests are made of strings");
        ws_client::write_text(&mut self.reply, text, books.mask());
    }

    fn on_frames(
        &mut self,
        mut bytes: &mut [u8],
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, String> {
        let mut progress = Progress::Same;
        // Taken out while it lends a message, put back unless the session is over.
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::of_server(0));
        while !bytes.is_empty() {
            let (used, incoming) = decoder
                .next(bytes)
                .map_err(|violation| format!("WebSocket: {}", violation.reason))?;
            match incoming {
                None => {}
                Some(Incoming::Text(text)) => {
                    progress = progress.max(self.on_message(text, setup, books)?);
                }
                Some(Incoming::Ping(payload)) => {
                    ws_client::write_pong(&mut self.reply, payload, books.mask());
                }
                Some(Incoming::Pong(_)) => {}
                Some(Incoming::Close(code)) => {
                    return Err(match code {
                        Some(code) => format!("closed by the server with {}", u16::from(code)),
                        None => "closed by the server".into(),
                    });
                }
            }
            bytes = &mut bytes[used..];
        }
        decoder.free_lent();
        self.decoder = decoder;
        Ok(progress)
    }

    fn on_message(
        &mut self,
        text: &str,
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, String> {
        books.window.messages += 1;
        if !text.ends_with("\r\n") {
            return Err("a message does not end with CR LF".into());
        }
        let mut progress = Progress::Same;
        let mut taken = 0;
        for line in update::lines(text.as_bytes()) {
            let range = taken..taken + line.len();
            taken = range.end + 2;
            if line.starts_with(b"U,") {
                if !self.is_live() {
                    return Err("an update came before its subscription".into());
                }
                self.on_update(line, &text[range], setup, books)?;
            } else {
                progress = progress.max(self.on_line(&text[range], setup, books)?);
            }
        }
        if taken != text.len() {
            return Err("a line does not end with CR LF".into());
        }
        Ok(progress)
    }

    fn on_update(
        &mut self,
        line: &[u8],
        text: &str,
        setup: &Setup,
        books: &mut Books,
    ) -> Result<(), String> {
        let glance = update::glance(line, setup.stamp_position)
            .filter(|glance| glance.item < setup.items_per_session)
            .ok_or("a U line is broken")?;
        let window = &mut books.window;
        window.updates += 1;
        let seen = &mut books.seen[self.local * setup.items_per_session + glance.item];
        if !std::mem::replace(seen, true) {
            window.snapshots += 1;
        } else if let (Some(stamp_ns), false) = (glance.stamp_ns, self.stalled) {
            if stamp_ns > books.arrived_ns {
                // Arrived while the poll before was being worked on; the clock then read is too old for it.
                books.arrived_ns = (books.clock_ns)();
            }
            match books.arrived_ns.checked_sub(stamp_ns) {
                Some(latency_ns) => window.time(latency_ns),
                None => window.from_future += 1,
            }
        } else {
            window.untimed += 1;
        }
        if let Some(verifier) = &mut books.verifier {
            match Line::parse(text) {
                Ok(Line::Update { sub_id, values, .. }) if sub_id == SUB_ID => {
                    verifier.apply(self.local, glance.item, values);
                }
                Ok(_) => return Err("an update of another subscription".into()),
                Err(error) => return Err(format!("a line cannot be read: {error}")),
            }
        }
        Ok(())
    }

    fn on_line(
        &mut self,
        text: &str,
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, String> {
        let line =
            Line::parse(text).map_err(|error| format!("a line cannot be read: {error}: {text}"))?;
        match line {
            Line::Conok { .. } if matches!(self.stage, Stage::Creating) => {
                self.stage = Stage::Subscribing;
                self.write(books, &subscribe(setup, self.number));
            }
            Line::Subok {
                sub_id: SUB_ID,
                items,
                fields,
            } if matches!(self.stage, Stage::Subscribing) => {
                if (items as usize, fields as usize)
                    != (setup.items_per_session, setup.fields.len())
                {
                    return Err(format!(
                        "subscribed to {items} items and {fields} fields, not as asked"
                    ));
                }
                self.stage = Stage::Live;
                return Ok(Progress::Live);
            }
            Line::Ov { lost, .. } => books.window.lost += u64::from(lost),
            Line::Conerr { code, text } => {
                return Err(format!("session refused: {code} {text}"));
            }
            Line::Reqerr { code, text, .. } | Line::Error { code, text } => {
                return Err(format!("request refused: {code} {text}"));
            }
            Line::End { code, text } => return Err(format!("session ended: {code} {text}")),
            Line::Conok { .. } | Line::Subok { .. } | Line::Subcmd { .. } | Line::Unsub { .. } => {
                return Err(format!("out of place: {text}"));
            }
            Line::Loop { .. } => {
                return Err("asked to bind again, which this is not made for".into());
            }
            _ => {}
        }
        Ok(Progress::Same)
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

fn create(setup: &Setup) -> Request<'_> {
    Request::Create(Create {
        adapter_set: Some(setup.adapter_set.as_str().into()),
        cid: Some(CLIENT_ID.into()),
        // Differences are the server's choice, and the quick look does not know them.
        supported_diffs: Some("".into()),
        stream: StreamOptions::default(),
        ..Create::default()
    })
}

fn subscribe(setup: &Setup, number: u32) -> Request<'static> {
    let first = number as usize * setup.items_per_session;
    let group: Vec<&str> = (first..first + setup.items_per_session)
        .map(|index| setup.items[index % setup.items.len()].as_str())
        .collect();
    let add = Add {
        sub_id: SUB_ID,
        data_adapter: Some(setup.data_adapter.clone().into()),
        group: group.join(" ").into(),
        schema: setup.fields.join(" ").into(),
        selector: None,
        mode: Mode::Merge,
        snapshot: Snapshot::Yes,
        frequency: setup.frequency,
        buffer_size: None,
        ack: false,
    };
    control("1", Op::Add(add))
}

fn control<'a>(req_id: &'a str, op: Op<'a>) -> Request<'a> {
    Request::Control(Control {
        req_id: req_id.into(),
        session: None,
        op,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use brightwire::wire::http;
    use brightwire::wire::origin::OriginPolicy;
    use brightwire::wire::ws::{Upgrade, frame_header};

    fn setup() -> Setup {
        Setup {
            host: "h".into(),
            adapter_set: "DEMO".into(),
            data_adapter: "Q".into(),
            items: vec!["a".into(), "b".into(), "c".into()],
            items_per_session: 2,
            fields: vec!["price".into(), "timestamp".into()],
            frequency: Frequency::Limited(2.0),
            stamp_position: Some(1),
        }
    }

    fn books() -> Books {
        Books {
            window: Window::open(),
            seen: vec![false; 2],
            verifier: None,
            arrived_ns: 1_000,
            clock_ns: || 5_000,
            frames_written: 0,
        }
    }

    /// Framed without the server's own check that messages end with a line.
    fn message(text: &str) -> Vec<u8> {
        let (header, first) = frame_header(text.len());
        [&header[first..], text.as_bytes()].concat()
    }

    /// What the session said since the last time, as the server reads it.
    fn said(session: &mut Session) -> Vec<String> {
        let mut bytes = std::mem::take(&mut session.reply);
        let mut decoder = Decoder::of_clients(10_000);
        let mut rest = &mut bytes[..];
        let mut texts = Vec::new();
        while !rest.is_empty() {
            let (used, incoming) = decoder.next(rest).unwrap();
            if let Some(Incoming::Text(text)) = incoming {
                texts.push(text.to_owned());
            }
            rest = &mut rest[used..];
        }
        texts
    }

    /// The server's answer to the session's upgrade.
    fn accepted(session: &mut Session) -> Vec<u8> {
        let request = std::mem::take(&mut session.reply);
        let mut headers = [httparse::EMPTY_HEADER; http::HEADERS_MAX];
        let request = http::Request::parse(&request, &mut headers, 0).unwrap();
        let upgrade = Upgrade::read(&request, &OriginPolicy::Any).unwrap();
        let mut answer = Vec::new();
        let context = http::Context::new("s", std::time::UNIX_EPOCH);
        upgrade.write_answer(&mut answer, &context);
        answer
    }

    fn live() -> (Session, Setup, Books) {
        let (setup, mut books) = (setup(), books());
        let mut session = Session::new(&setup, 1, 0);
        let mut opening = accepted(&mut session);
        opening.extend(message("WSOK\r\nCONOK,S1,50000,5000,*\r\n"));
        opening.extend(message("SUBOK,1,2,2\r\nCONF,1,2.0,filtered\r\n"));
        let progress = session.on_bytes(&mut opening, &setup, &mut books);
        assert_eq!(progress, Ok(Progress::Live));
        books.window = Window::open();
        (session, setup, books)
    }

    #[test]
    fn a_session_is_opened_step_by_step() {
        let (setup, mut books) = (setup(), books());
        let mut session = Session::new(&setup, 1, 0);
        let answer = accepted(&mut session);
        // Cut anywhere: the last byte makes the difference.
        for byte in &answer[..answer.len() - 1] {
            let progress = session.on_bytes(&mut [*byte], &setup, &mut books);
            assert_eq!(progress, Ok(Progress::Same));
            assert!(session.reply.is_empty());
        }
        let mut last = [*answer.last().unwrap()];
        session.on_bytes(&mut last, &setup, &mut books).unwrap();
        assert_eq!(
            said(&mut session),
            [
                "wsok",
                "create_session\r\nLS_send_sync=false&LS_adapter_set=DEMO\
                 &LS_cid=mgQkwtwdysogQz2BJ4Ji%20kOj2Bg&LS_supported_diffs=\r\n"
            ]
        );
        let mut conok = message("WSOK\r\nCONOK,S1,50000,5000,*\r\n");
        session.on_bytes(&mut conok, &setup, &mut books).unwrap();
        assert_eq!(
            said(&mut session),
            [
                "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=c%20a\
              &LS_schema=price%20timestamp&LS_data_adapter=Q&LS_snapshot=true\
              &LS_requested_max_frequency=2.0&LS_ack=false\r\n"
            ]
        );
        assert!(!session.is_live());
        let mut subok = message("SUBOK,1,2,2\r\n");
        let progress = session.on_bytes(&mut subok, &setup, &mut books);
        assert_eq!(progress, Ok(Progress::Live));
        session.destroy(&mut books);
        assert_eq!(
            said(&mut session),
            ["control\r\nLS_reqId=2&LS_op=destroy\r\n"]
        );
    }

    #[test]
    fn snapshots_are_not_timed_and_unchanged_times_neither() {
        let (mut session, setup, mut books) = live();
        let mut bytes = message("U,1,1,a|900\r\nU,1,2,b|900\r\nU,1,1,|990\r\n");
        bytes.extend(message(
            "PROBE\r\nU,1,2,c|\r\nU,1,2,|4000\r\nU,1,2,|6000\r\n",
        ));
        session.on_bytes(&mut bytes, &setup, &mut books).unwrap();
        let window = &books.window;
        assert_eq!(
            (window.messages, window.updates, window.snapshots),
            (2, 6, 2)
        );
        assert_eq!((window.untimed, window.from_future), (1, 1));
        assert_eq!(window.latency_ns.len(), 2);
        assert_eq!(window.latency_ns.min(), 10);
        assert_eq!(
            window.latency_ns.max(),
            1_000,
            "the clock was read again for what came later"
        );
    }

    #[test]
    fn a_server_that_breaks_the_protocol_is_found_out() {
        for (text, reason) in [
            ("U,1,3,a|1\r\n", "a U line is broken"),
            ("U,1,a|1\r\n", "a U line is broken"),
            ("U,1,1,a|1\nU,1,1,b|1\r\n", "a line does not end with CR LF"),
            ("U,1,1,a|1", "a message does not end with CR LF"),
            ("HELLO\r\n", "a line cannot be read"),
            ("SUBOK,1,2,2\r\n", "out of place"),
            ("UNSUB,1\r\n", "out of place"),
            ("END,31,bye\r\n", "session ended: 31 bye"),
            ("REQERR,1,19,no\r\n", "request refused: 19 no"),
            ("LOOP,0\r\n", "asked to bind again"),
        ] {
            let (mut session, setup, mut books) = live();
            let error = session.on_bytes(&mut message(text), &setup, &mut books);
            assert!(
                error.as_ref().is_err_and(|error| error.starts_with(reason)),
                "{error:?}"
            );
        }
    }

    #[test]
    fn answers_that_are_not_as_asked_are_failures() {
        let (setup, mut books) = (setup(), books());
        let mut session = Session::new(&setup, 0, 0);
        let mut opening = accepted(&mut session);
        opening.extend(message("CONOK,S1,50000,5000,*\r\nSUBOK,1,1,2\r\n"));
        let error = session.on_bytes(&mut opening, &setup, &mut books);
        assert!(error.is_err_and(|error| error.contains("not as asked")));

        let mut session = Session::new(&setup, 0, 0);
        let error = session.on_bytes(
            &mut b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec(),
            &setup,
            &mut books,
        );
        assert!(error.is_err_and(|error| error.contains("403")));
    }
}
