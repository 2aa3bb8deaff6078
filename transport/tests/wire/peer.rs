//! tungstenite, which was not written by us, at the other end.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use brightwire::net::connection::{
    Caller, Connection, Flow, Host, Progress, Settings, TlcpRequest,
};
use brightwire::net::outbox;
use brightwire::wire::ws::{CloseCode, Decoder, Incoming, Upgrade};
use brightwire::wire::ws_client::{Handshake, write_close, write_text};

use crate::support::*;

/// Serves one connection: every message comes back, as one line.
fn echo_server(listener: &TcpListener) {
    let (mut socket, _) = listener.accept().unwrap();
    let mut connection = Connection::new(Arc::new(Settings::default()));
    let mut host = Echo(Recorder::default());
    let mut scratch = vec![0; 4096];
    while !host.0.closed {
        let received = socket.read(&mut scratch).unwrap();
        if received == 0 {
            return;
        }
        let progress = connection.on_bytes(&mut scratch[..received], &mut host);
        assert!(matches!(progress, Progress::Reading | Progress::Closed));
        socket.write_all(&host.0.reply).unwrap();
        host.0.reply.clear();
    }
}

struct Echo(Recorder);

impl Host for Echo {
    fn peer(&self) -> IpAddr {
        self.0.peer()
    }
    fn proxied(&mut self, client: SocketAddr) {
        self.0.proxied(client);
    }
    fn upgraded(&mut self, upgrade: &Upgrade<'_>, caller: Caller, settings: &Settings) {
        self.0.upgraded(upgrade, caller, settings);
    }
    fn message(&mut self, text: &str) -> Flow {
        let mut buffer = Vec::new();
        let start = outbox::begin(&mut buffer);
        buffer.extend_from_slice(text.as_bytes());
        buffer.extend_from_slice(b"\r\n");
        let from = outbox::finish(&mut buffer, start);
        self.0.reply.extend_from_slice(&buffer[from..]);
        Flow::Continue
    }
    fn cut_message(&mut self, beginning: &str) {
        self.0.cut_message(beginning);
    }
    fn request(&mut self, request: TlcpRequest<'_>, settings: &Settings) {
        self.0.request(request, settings);
    }
    fn reply(&mut self) -> &mut Vec<u8> {
        &mut self.0.reply
    }
    fn close(&mut self) {
        self.0.close();
    }
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[test]
fn tungstenite_as_the_client() {
    use tungstenite::client::IntoClientRequest;
    use tungstenite::protocol::CloseFrame;
    use tungstenite::{Bytes, Message};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || echo_server(&listener));
    let mut request = format!("ws://{address}/lightstreamer")
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", SUBPROTOCOL.parse().unwrap());
    let (mut client, answer) =
        tungstenite::client(request, TcpStream::connect(address).unwrap()).unwrap();
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], SUBPROTOCOL);
    for length in [0, 1, 125, 126, 4_000, 49_000] {
        let message = "\u{e9}".repeat(length / 2);
        client.send(Message::text(message.clone())).unwrap();
        assert_eq!(client.read().unwrap(), Message::text(message + "\r\n"));
    }
    client
        .send(Message::Ping(Bytes::from_static(b"there?")))
        .unwrap();
    assert_eq!(
        client.read().unwrap(),
        Message::Pong(Bytes::from_static(b"there?"))
    );
    client
        .close(Some(CloseFrame {
            code: CloseCode::Away,
            reason: "enough".into(),
        }))
        .unwrap();
    loop {
        match client.read() {
            Ok(Message::Close(frame)) => assert_eq!(frame.unwrap().code, CloseCode::Away),
            Ok(other) => panic!("{other:?}"),
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    server.join().unwrap();
}

#[test]
#[allow(clippy::result_large_err)] // the shape of tungstenite's callback
fn tungstenite_as_the_server() {
    use tungstenite::Message;
    use tungstenite::handshake::server::{Request, Response};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let confirm = |request: &Request, mut response: Response| {
            let offered = request.headers()["Sec-WebSocket-Protocol"].clone();
            response
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", offered);
            Ok(response)
        };
        let mut server = tungstenite::accept_hdr(socket, confirm).unwrap();
        loop {
            match server.read() {
                Ok(Message::Text(text)) => server.send(Message::Text(text)).unwrap(),
                Ok(Message::Close(frame)) => assert_eq!(frame.unwrap().code, CloseCode::Normal),
                Ok(other) => panic!("{other:?}"),
                Err(tungstenite::Error::ConnectionClosed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut socket = TcpStream::connect(address).unwrap();
    let mut out = Vec::new();
    let handshake = Handshake::request(
        &mut out,
        &address.to_string(),
        "/lightstreamer",
        SUBPROTOCOL,
        &[],
    );
    socket.write_all(&out).unwrap();
    let mut received = Vec::new();
    let mut at = loop {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        received.extend_from_slice(&byte);
        if let Some(head_bytes) = handshake.answer(&received).unwrap() {
            break head_bytes;
        }
    };
    let messages = ["a".repeat(3), "b".repeat(300), "c".repeat(70_000)];
    out.clear();
    for message in &messages {
        write_text(&mut out, message, MASK);
    }
    write_close(&mut out, CloseCode::Normal, MASK);
    // Written by a thread of its own, so that neither end waits for the other to read.
    let mut writer = socket.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&out).unwrap());
    socket.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    server.join().unwrap();

    let mut decoder = Decoder::of_server(1 << 20);
    for message in &messages {
        let (used, incoming) = decoder.next(&mut received[at..]).unwrap();
        at += used;
        assert_eq!(incoming, Some(Incoming::Text(message)));
    }
    let bytes = received.len();
    let (used, incoming) = decoder.next(&mut received[at..]).unwrap();
    assert_eq!(incoming, Some(Incoming::Close(Some(CloseCode::Normal))));
    assert_eq!(at + used, bytes);
}
