//! The bytes of one connection, with TLS around them or without.

use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One connection.
pub(super) enum Stream {
    Plain(Async<TcpStream>),
    Tls(Box<TlsStream<Async<TcpStream>>>),
}

/// What is agreed on before the first line.
#[derive(Clone)]
pub(super) enum Security {
    /// Nothing.
    Plain,
    /// We listen.
    Server(Arc<ServerConfig>),
    /// We connect, to a host that must have this name in its certificate.
    Client(Arc<ClientConfig>, ServerName<'static>),
}

impl Security {
    /// Makes a connection what it shall be.
    pub async fn secure(&self, socket: Async<TcpStream>) -> io::Result<Stream> {
        // Requests are small and answered one by one.
        socket.get_ref().set_nodelay(true)?;
        socket2::SockRef::from(socket.get_ref()).set_keepalive(true)?;
        Ok(match self {
            Self::Plain => Stream::Plain(socket),
            Self::Server(config) => {
                let stream = TlsAcceptor::from(Arc::clone(config)).accept(socket);
                Stream::Tls(Box::new(stream.await?.into()))
            }
            Self::Client(config, name) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), socket);
                Stream::Tls(Box::new(stream.await?.into()))
            }
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_close(context),
            Self::Tls(stream) => Pin::new(stream).poll_close(context),
        }
    }
}
