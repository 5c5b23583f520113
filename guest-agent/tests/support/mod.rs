//! The host's end of the link and a gRPC client over it, for tests: a socket pair stands in for the serial port.

use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hrun_agent::connection;
use hrun_agent::contract::agent_service_client::AgentServiceClient;
use hrun_agent::link::{Arrivals, Decoder, Kind, Link, MAX_PAYLOAD, SocketPort, encode};
use hrun_agent::server::Agent;
use hyper::client::conn::http2;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};

/// The OPEN before which the rest of any broken frame is filled up.
const PADDED_ATTEMPT: usize = 6;

/// The serial port between a host and a guest. It outlives every connection, as the real one does.
///
/// Whoever opens an epoch has killed the host before: that one reads and writes no more.
pub struct Wire {
    host: StdUnixStream,
    killed: Cell<Arc<AtomicBool>>,
    guest: Option<StdUnixStream>,
}

impl Wire {
    pub fn new() -> Self {
        let (host, guest) = StdUnixStream::pair().unwrap();
        host.set_nonblocking(true).unwrap();
        guest.set_nonblocking(true).unwrap();
        Self {
            host,
            killed: Cell::default(),
            guest: Some(guest),
        }
    }

    /// Starts the agent on the guest's end.
    pub fn serve(&mut self) {
        let port = SocketPort::new(self.guest.take().unwrap().into()).unwrap();
        let arrivals = Arrivals::default();
        tokio::spawn(Link::new(port, arrivals.clone()));
        let agent = Arc::new(Agent::new(0).unwrap());
        tokio::spawn(async move { connection::serve(agent, || arrivals.next()).await });
    }

    /// The host's end as raw bytes.
    pub fn raw(&self) -> UnixStream {
        UnixStream::from_std(self.host.try_clone().unwrap()).unwrap()
    }

    pub async fn open(&self, epoch: u64) -> HostStream {
        let killed = Arc::new(AtomicBool::new(false));
        self.killed.replace(Arc::clone(&killed)).store(true, Ordering::Relaxed);
        let mut stream = open_over(self.raw(), epoch).await;
        stream.killed = killed;
        stream
    }

    pub async fn connect(&self, epoch: u64) -> AgentServiceClient<Client> {
        client_over(self.open(epoch).await).await
    }
}

/// Opens an epoch as a host does: the same OPEN again and again until OPENED comes.
pub async fn open_over(socket: UnixStream, epoch: u64) -> HostStream {
    let mut stream = HostStream::new(socket, epoch);
    let mut pause = Duration::from_millis(1);
    for attempt in 1.. {
        if stream.writing.is_empty() {
            if attempt == PADDED_ATTEMPT {
                encode(&mut stream.writing, 0, Kind::Data, &[0; MAX_PAYLOAD]);
            }
            encode(&mut stream.writing, epoch, Kind::Open, &[]);
        }
        match tokio::time::timeout(pause, stream.opened()).await {
            Ok(()) => return stream,
            Err(_) => pause = (pause * 2).min(Duration::from_millis(100)),
        }
    }
    unreachable!("attempts never end")
}

/// Writes raw bytes into the wire, waiting for room.
pub async fn write_all(socket: &UnixStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        socket.writable().await.unwrap();
        match socket.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

pub async fn client_over(stream: HostStream) -> AgentServiceClient<Client> {
    let (sender, connection) = http2::handshake(Spawn, stream).await.unwrap();
    tokio::spawn(connection);
    AgentServiceClient::with_origin(Client(sender), "http://guest".parse().unwrap())
}

pub struct HostStream {
    socket: UnixStream,
    killed: Arc<AtomicBool>,
    epoch: u64,
    decoder: Decoder,
    opened: bool,
    closed: bool,
    inbox: BytesMut,
    writing: BytesMut,
}

impl HostStream {
    fn new(socket: UnixStream, epoch: u64) -> Self {
        Self {
            socket,
            killed: Arc::default(),
            epoch,
            decoder: Decoder::default(),
            opened: false,
            closed: false,
            inbox: BytesMut::new(),
            writing: BytesMut::new(),
        }
    }

    async fn opened(&mut self) {
        std::future::poll_fn(|cx| {
            while !self.opened {
                let _ = self.poll_written(cx)?;
                ready!(self.poll_frames(cx))?;
            }
            Poll::Ready(Ok::<_, io::Error>(()))
        })
        .await
        .unwrap();
    }

    /// Everything the guest still sends in this epoch, until it closes it.
    pub async fn drain_until_close(&mut self) -> usize {
        let mut total = 0;
        std::future::poll_fn(|cx| {
            loop {
                total += self.inbox.len();
                self.inbox.clear();
                if self.closed {
                    return Poll::Ready(total);
                }
                ready!(self.poll_frames(cx)).unwrap();
            }
        })
        .await
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.killed.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let mut storage = vec![0; self.decoder.room()];
        let mut buffer = ReadBuf::new(&mut storage);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            self.closed = true;
        }
        self.decoder.push(buffer.filled());
        while let Some(frame) = self.decoder.next_frame() {
            match frame.kind {
                Kind::Opened if frame.epoch == self.epoch => self.opened = true,
                Kind::Data if frame.epoch == self.epoch => self.inbox.extend_from_slice(&frame.payload),
                Kind::Close if frame.epoch == self.epoch => self.closed = true,
                _ => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.killed.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        while !self.writing.is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.writing))?;
            self.writing.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl Read for HostStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        while self.inbox.is_empty() && !self.closed {
            ready!(self.poll_frames(cx))?;
        }
        let length = self.inbox.len().min(buf.remaining());
        buf.put_slice(&self.inbox.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl Write for HostStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(cx))?;
        let length = bytes.len().min(MAX_PAYLOAD);
        let epoch = self.epoch;
        encode(&mut self.writing, epoch, Kind::Data, &bytes[..length]);
        let _ = self.poll_written(cx)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let epoch = self.epoch;
        encode(&mut self.writing, epoch, Kind::Close, &[]);
        self.poll_written(cx)
    }
}

#[derive(Clone)]
pub struct Client(http2::SendRequest<Body>);

impl Service<http::Request<Body>> for Client {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[derive(Clone, Copy)]
struct Spawn;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}
