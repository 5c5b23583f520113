//! HTTP/2 over one byte stream at a time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::rt::{Read, Write};
use hyper::server::conn::http2;
use tonic::codegen::Service as _;

use crate::contract::agent_service_server::AgentServiceServer;
use crate::server::Agent;
use crate::server::service::Service;

/// Bytes of responses waiting in HTTP/2 per stream.
const SEND_BUFFER: usize = 64 * 1024;
const RECEIVE_WINDOW: u32 = 256 * 1024;
const MAX_STREAMS: u32 = 128;
/// A create request carries files of up to 1 MiB.
const MAX_MESSAGE: usize = 16 << 20;

/// Serves connections as `next` gives them; each new one ends the one before it.
pub async fn serve<S, F>(agent: Arc<Agent>, mut next: impl FnMut() -> F) -> Infallible
where
    S: Read + Write + Unpin + Send + 'static,
    F: Future<Output = S>,
{
    let mut stream = next().await;
    loop {
        let mut connection = pin!(serve_one(Arc::clone(&agent), stream));
        let mut arrival = pin!(next());
        let mut served = false;
        stream = std::future::poll_fn(|cx| {
            if let Poll::Ready(stream) = arrival.as_mut().poll(cx) {
                return Poll::Ready(stream);
            }
            served = served || connection.as_mut().poll(cx).is_ready();
            Poll::Pending
        })
        .await;
    }
}

/// Until the host goes, or breaks the protocol: it opens a new connection then.
async fn serve_one<S: Read + Write + Unpin + Send + 'static>(agent: Arc<Agent>, stream: S) {
    let server = AgentServiceServer::new(Service(agent)).max_decoding_message_size(MAX_MESSAGE);
    let service = hyper::service::service_fn(move |request| server.clone().call(request));
    let _ = http2::Builder::new(Spawn)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(stream, service)
        .await;
}

#[derive(Clone, Copy)]
struct Spawn;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}
