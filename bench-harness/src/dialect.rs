//! What a client of each kind of server says to be sent messages, and what a publisher says to have them sent.

use std::borrow::Cow;

use brightwire::wire::ws_client;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// A protocol, from the side of clients and publishers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    protocol: Protocol,
    items: usize,
    payload_field: &'static str,
}

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLCP over WebSocket.
    Tlcp,
    /// WebSocket; the first message names the items, blanks between them.
    Plain,
    /// nchan: the path names the items.
    Nchan,
    /// MQTT 3.1.1 over WebSocket.
    Mqtt,
    /// NATS over WebSocket.
    Nats,
}

/// The key of the WebSocket handshake need not be random: no server here caches.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Any mask is legal.
const MASK: [u8; 4] = [1, 2, 3, 4];

impl Dialect {
    /// For clients that want so many items, named `item1` and so on.
    pub fn new(protocol: Protocol, items: usize) -> Self {
        Self {
            protocol,
            items,
            payload_field: "m",
        }
    }

    /// How often a client has to wait for an answer until it is subscribed.
    pub fn stages(&self) -> usize {
        match self.protocol {
            Protocol::Tlcp | Protocol::Mqtt => 3,
            Protocol::Plain | Protocol::Nchan => 1,
            Protocol::Nats => 2,
        }
    }

    /// What a client waits for in a stage.
    pub fn hears(&self, stage: usize) -> &'static [u8] {
        match (self.protocol, stage) {
            (_, 0) => b"\r\n\r\n",
            (Protocol::Tlcp, 1) => b"CONS,",
            (Protocol::Tlcp, _) => b"SUBOK,",
            (Protocol::Mqtt, 1) => b"\x20\x02", // CONNACK
            (Protocol::Mqtt, _) => b"\x90",     // SUBACK
            (Protocol::Nats, _) => b"PONG\r\n",
            (Protocol::Plain | Protocol::Nchan, _) => b"",
        }
    }

    /// What a client says when it comes to a stage, the last of which is being subscribed.
    pub fn say(&self, stage: usize) -> Cow<'static, [u8]> {
        match (self.protocol, stage) {
            (_, 0) => self.upgrade().into_bytes().into(),
            (Protocol::Tlcp, 1) => {
                let mut out = Vec::new();
                ws_client::write_text(&mut out, "wsok", MASK);
                let create = "create_session\r\nLS_adapter_set=DEFAULT&LS_cid=mgQkwtwdysogQz2BJ4Ji%20kOj2Bg&LS_send_sync=false&LS_supported_diffs=";
                ws_client::write_text(&mut out, create, MASK);
                out.into()
            }
            (Protocol::Tlcp, 2) => {
                let (group, field) = (self.names("%20"), self.payload_field);
                let add = format!(
                    "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=RAW&LS_group={group}&LS_schema={field}&LS_ack=false"
                );
                let mut out = Vec::new();
                ws_client::write_text(&mut out, &add, MASK);
                out.into()
            }
            (Protocol::Plain, 1) => {
                let mut out = Vec::new();
                ws_client::write_text(&mut out, &self.names(" "), MASK);
                out.into()
            }
            (Protocol::Mqtt, 1) => binary(&mqtt::connect()).into(),
            (Protocol::Mqtt, 2) => binary(&mqtt::subscribe(self.items)).into(),
            (Protocol::Nats, 1) => {
                let mut text = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_owned();
                for item in 1..=self.items {
                    text += &format!("SUB item{item} {item}\r\n");
                }
                text += "PING\r\n";
                binary(text.as_bytes()).into()
            }
            _ => Cow::Borrowed(&[]),
        }
    }

    /// What a client says before it leaves. A session that is not ended waits for its client to come back, and takes
    /// updates meanwhile, which the next measurement would have to pay for; other protocols keep nothing. With what is
    /// heard when it is done.
    pub fn farewell(&self) -> Option<(Vec<u8>, &'static [u8])> {
        (self.protocol == Protocol::Tlcp).then(|| {
            let mut out = Vec::new();
            ws_client::write_text(&mut out, "control\r\nLS_reqId=2&LS_op=destroy", MASK);
            (out, &b"END,"[..])
        })
    }

    /// What a publisher says first.
    pub fn publisher_hello(&self) -> Vec<u8> {
        match self.protocol {
            Protocol::Mqtt => mqtt::connect(),
            Protocol::Nats => b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_vec(),
            Protocol::Tlcp | Protocol::Plain | Protocol::Nchan => Vec::new(),
        }
    }

    /// Writes what has a payload sent to all clients of an item, counted from 1.
    pub fn publish(&self, out: &mut Vec<u8>, item: usize, payload: &[u8]) {
        match self.protocol {
            Protocol::Tlcp => {
                out.extend_from_slice(format!("item{item}\t{}=", self.payload_field).as_bytes());
                out.extend_from_slice(payload);
                out.push(b'\n');
            }
            Protocol::Plain => {
                out.extend_from_slice(format!("item{item} ").as_bytes());
                out.extend_from_slice(payload);
                out.push(b'\n');
            }
            Protocol::Nchan => {
                let length = payload.len();
                let head = format!(
                    "POST /pub/item{item} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n"
                );
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(payload);
            }
            Protocol::Mqtt => mqtt::publish(out, item, payload),
            Protocol::Nats => {
                out.extend_from_slice(format!("PUB item{item} {}\r\n", payload.len()).as_bytes());
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn names(&self, separator: &str) -> String {
        let names: Vec<String> = (1..=self.items).map(|item| format!("item{item}")).collect();
        names.join(separator)
    }

    fn upgrade(&self) -> String {
        let (path, subprotocol) = match self.protocol {
            Protocol::Tlcp => ("/lightstreamer".to_owned(), "TLCP-2.5.0.lightstreamer.com"),
            Protocol::Nchan => (format!("/sub/{}", self.names(",")), ""),
            Protocol::Mqtt => ("/".to_owned(), "mqtt"),
            Protocol::Plain | Protocol::Nats => ("/".to_owned(), ""),
        };
        let subprotocol = match subprotocol {
            "" => String::new(),
            name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{subprotocol}\r\n"
        )
    }
}

fn binary(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ws_client::write_frame(&mut out, true, OpCode::Data(Data::Binary), payload, MASK);
    out
}

/// The packets of MQTT 3.1.1 that a fan-out needs.
mod mqtt {
    /// Each connection gets a name from the server.
    pub fn connect() -> Vec<u8> {
        let mut body = b"\x00\x04MQTT\x04\x02".to_vec(); // version 3.1.1, clean session
        body.extend_from_slice(&600u16.to_be_bytes()); // keep-alive, s: longer than any run
        body.extend_from_slice(&[0, 0]); // no client id
        packet(0x10, &body)
    }

    /// All items, at most once.
    pub fn subscribe(items: usize) -> Vec<u8> {
        let mut body = vec![0, 1];
        for item in 1..=items {
            string(&mut body, &format!("item{item}"));
            body.push(0);
        }
        packet(0x82, &body)
    }

    /// At most once, not retained.
    pub fn publish(out: &mut Vec<u8>, item: usize, payload: &[u8]) {
        let mut body = Vec::with_capacity(payload.len() + 16);
        string(&mut body, &format!("item{item}"));
        body.extend_from_slice(payload);
        out.append(&mut packet(0x30, &body));
    }

    fn string(out: &mut Vec<u8>, text: &str) {
        let length = u16::try_from(text.len()).expect("names are short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind];
        let mut length = body.len();
        loop {
            let low = (length % 128) as u8;
            length /= 128;
            out.push(if length > 0 { low | 0x80 } else { low });
            if length == 0 {
                break;
            }
        }
        out.extend_from_slice(body);
        out
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn lengths_are_in_base_128() {
            assert_eq!(super::packet(0x30, &[0; 5])[..2], [0x30, 5]);
            assert_eq!(super::packet(0x30, &[0; 321])[..3], [0x30, 0xC1, 0x02]);
        }
    }
}
