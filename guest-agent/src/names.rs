//! The guest's end of a name server of the host: processes ask an address of the loopback network, and the host answers
//! over the connection to the agent. Nothing is looked into.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::contract::relay_names_request::Message;
use crate::contract::{RelayNamesRequest, RelayNamesResponse};
use crate::failure::{Doing, Failure, Result};

const PORT: u16 = 53;
/// Of the contract.
const MOST_WAITING: usize = 256;
const MOST_CONNECTIONS: usize = 32;
/// Until the next query of a connection, or its answer.
const IDLE: Duration = Duration::from_secs(10);

/// Who waits for an answer.
enum Asker {
    Datagram(SocketAddr),
    Stream(oneshot::Sender<Vec<u8>>),
}

#[derive(Default)]
struct Waiting {
    askers: HashMap<u32, Asker>,
    last_id: u32,
}

#[derive(Clone)]
struct Shared {
    waiting: Arc<Mutex<Waiting>>,
    queries: mpsc::Sender<RelayNamesResponse>,
}

/// The queries. Dropped, nobody listens any more.
pub struct NameRelay {
    queries: mpsc::Receiver<RelayNamesResponse>,
    tasks: Vec<JoinHandle<()>>,
}

impl NameRelay {
    pub async fn open(address: &str, answers: Streaming<RelayNamesRequest>) -> Result<NameRelay> {
        let address: Ipv4Addr = address
            .parse()
            .ok()
            .filter(Ipv4Addr::is_loopback)
            .ok_or_else(|| Failure::invalid(format!("{address:?} is no address of the loopback network")))?;
        let doing = || format!("listening on {address} port {PORT}");
        let datagrams = Arc::new(UdpSocket::bind((address, PORT)).await.doing(doing)?);
        let streams = TcpListener::bind((address, PORT)).await.doing(doing)?;
        let (sender, queries) = mpsc::channel(MOST_WAITING);
        let shared = Shared {
            waiting: Arc::default(),
            queries: sender,
        };
        let tasks = vec![
            tokio::spawn(take_datagrams(Arc::clone(&datagrams), shared.clone())),
            tokio::spawn(take_connections(streams, shared.clone())),
            tokio::spawn(give_answers(datagrams, answers, shared)),
        ];
        Ok(NameRelay { queries, tasks })
    }
}

impl Stream for NameRelay {
    type Item = Result<RelayNamesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queries.poll_recv(cx).map(|query| query.map(Ok))
    }
}

impl Drop for NameRelay {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A query that there is no room for is dropped, as a name server does: who asks asks again.
    fn ask(&self, data: Vec<u8>, asker: Asker) {
        let over_stream = matches!(asker, Asker::Stream(_));
        let mut waiting = self.lock();
        if waiting.askers.len() >= MOST_WAITING {
            return;
        }
        waiting.last_id = waiting.last_id.wrapping_add(1);
        let id = waiting.last_id;
        let query = RelayNamesResponse { id, data, over_stream };
        if self.queries.try_send(query).is_ok() {
            waiting.askers.insert(id, asker);
        }
    }
}

async fn take_datagrams(socket: Arc<UdpSocket>, shared: Shared) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // An error is of one datagram: an answer that nobody waited for any more.
        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            shared.ask(buffer[..length].to_vec(), Asker::Datagram(from));
        }
    }
}

async fn take_connections(listener: TcpListener, shared: Shared) {
    let places = Arc::new(tokio::sync::Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let _ = serve(stream, shared).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Queries and answers with their length before them (RFC 1035, 4.2.2), one after the other.
async fn serve(mut stream: TcpStream, shared: Shared) -> std::io::Result<()> {
    loop {
        let mut length = [0; 2];
        timeout(IDLE, stream.read_exact(&mut length)).await??;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        timeout(IDLE, stream.read_exact(&mut query)).await??;
        let (sender, answer) = oneshot::channel();
        shared.ask(query, Asker::Stream(sender));
        let Ok(Ok(answer)) = timeout(IDLE, answer).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

async fn give_answers(socket: Arc<UdpSocket>, mut answers: Streaming<RelayNamesRequest>, shared: Shared) {
    while let Ok(Some(request)) = answers.message().await {
        let Some(Message::Answer(answer)) = request.message else {
            return;
        };
        let asker = shared.lock().askers.remove(&answer.id);
        if answer.data.is_empty() {
            continue;
        }
        match asker {
            Some(Asker::Datagram(to)) => drop(socket.send_to(&answer.data, to).await),
            Some(Asker::Stream(sender)) => drop(sender.send(answer.data)),
            None => {}
        }
    }
}
