//! A remote adapter whose lines are written by hand.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use super::WAIT_MAX;

/// One connection of a remote.
pub struct Remote {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// What the server has asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: String,
    pub method: String,
    /// As on the wire, without types: `["user", "#"]`.
    pub values: Vec<String>,
    /// The whole line.
    pub line: String,
}

/// How the Java SDK introduces itself.
pub const JAVA: &str = "1|RAC|S|SDK|S|Java+Remote+Adapter+SDK|S|enableClosePacket|S|true";

impl Remote {
    /// A connection that says nothing yet.
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    /// A connection that somebody has made.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    /// A remote that speaks 1.9.1 as the Java SDK does, and is ready.
    pub fn ready(address: SocketAddr) -> Self {
        let mut remote = Self::connect(address);
        remote.say(JAVA);
        remote.init("S|ARI.version|S|1.9.1");
        remote
    }

    /// Takes the init request and answers it; returns the request.
    pub fn init(&mut self, answer: &str) -> Request {
        let init = self.next();
        assert!(matches!(&*init.method, "MPI" | "DPI"), "{init:?}");
        self.reply(&init, answer);
        init
    }

    /// Writes lines.
    pub fn say(&mut self, lines: &str) {
        self.write(format!("{lines}\r\n").as_bytes());
    }

    /// Writes any bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Writes as much as the server takes; it may close the connection.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Answers a request.
    pub fn reply(&mut self, request: &Request, answer: &str) {
        self.say(&format!("{}|{}|{answer}", request.id, request.method));
    }

    /// The next request.
    pub fn next(&mut self) -> Request {
        self.try_next()
            .expect("the server has closed the connection")
    }

    /// The next request, or `None` at the end of the connection.
    pub fn try_next(&mut self) -> Option<Request> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
        let line = line.strip_suffix("\r\n").expect("CR and LF").to_owned();
        let mut tokens = line.split('|');
        let (id, method) = (tokens.next()?.into(), tokens.next()?.into());
        assert!(line.split('|').all(|token| !token.is_empty()), "{line}");
        let mut values = Vec::new();
        while let Some(kind) = tokens.next() {
            assert_eq!(kind.len(), 1, "a type letter in {line}");
            if kind == "V" {
                continue; // stands alone
            }
            values.push(tokens.next().expect("a value").to_owned());
        }
        Some(Request {
            id,
            method,
            values,
            line,
        })
    }

    /// The next request, which must be of this method.
    pub fn expect(&mut self, method: &str) -> Request {
        let request = self.next();
        assert_eq!(request.method, method, "{}", request.line);
        request
    }

    /// Takes a request of this method and answers it.
    pub fn answer(&mut self, method: &str, answer: &str) -> Request {
        let request = self.expect(method);
        self.reply(&request, answer);
        request
    }

    /// Reads to the end of the connection; returns the requests that still came.
    pub fn end(&mut self) -> Vec<Request> {
        std::iter::from_fn(|| self.try_next()).collect()
    }

    /// Ends the connection from this side.
    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// A notification of an item.
    pub fn notify(&mut self, method: &str, item: &str, subscription: &Request, rest: &str) {
        let id = &subscription.id;
        self.say(&format!("1795458747514|{method}|S|{item}|S|{id}{rest}"));
    }

    /// Answers everything from now on by itself.
    pub fn serve(self, adapter: impl FnMut(&Request) -> Option<String> + Send + 'static) {
        let mut adapter = adapter;
        let mut remote = self;
        thread::spawn(move || {
            while let Some(request) = remote.try_next() {
                if let Some(answer) = adapter(&request) {
                    remote.reply(&request, &answer);
                }
            }
        });
    }
}

impl Request {
    /// The value that stands behind a name, for requests of pairs.
    pub fn value(&self, name: &str) -> Option<&str> {
        let at = self.values.iter().position(|value| value == name)?;
        self.values.get(at + 1).map(String::as_str)
    }
}

/// A metadata adapter that allows everything, as the Java SDK would answer.
pub struct Java;

impl Java {
    /// What it answers to a request; groups and schemas are lists of names.
    pub fn answer(request: &Request) -> Option<String> {
        let names = |text: &str| {
            let names: Vec<_> = text.split(' ').map(|name| format!("S|{name}")).collect();
            names.join("|")
        };
        Some(match &*request.method {
            "NUS" | "NUA" => "D|0|B|1".into(),
            "NNS" => "I|0".into(),
            "GIS" => names(&request.values[1]),
            "GSC" => names(&request.values[2]),
            "GIT" => vec!["I|10|D|0|M|RMDC"; request.values.len()].join("|"),
            "GUI" => vec!["I|0|D|0|M|RMDC"; request.values.len() - 1].join("|"),
            "NNT" => "B|0|B|0".into(),
            "NUM" | "NTC" | "NSC" => "V".into(),
            _ => return None,
        })
    }

    /// Answers the next request, which must be of this method, as this adapter does.
    pub fn answers(remote: &mut Remote, method: &str) -> Request {
        let request = remote.expect(method);
        remote.reply(&request, &Self::answer(&request).unwrap());
        request
    }

    /// Answers what a session takes; returns the session's id.
    pub fn session(remote: &mut Remote) -> String {
        Self::answers(remote, "NUS");
        Self::answers(remote, "NNS").values[1].clone()
    }

    /// Answers what a subscription takes up to `NNT`, in any order where that is free; returns the methods.
    pub fn subscription(remote: &mut Remote) -> Vec<String> {
        let mut methods = Vec::new();
        loop {
            let request = remote.next();
            remote.reply(&request, &Self::answer(&request).unwrap());
            methods.push(request.method);
            if methods.last().is_some_and(|method| method == "NNT") {
                return methods;
            }
        }
    }
}

/// Reads what is there until the connection ends, for connections that are not to be written on.
pub fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    bytes
}
