//! The state machine of the guest's end: which epoch is current, what to read next, what to write next.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::sync::Notify;

use super::frame::{Decoder, Frame, Kind, MAX_PAYLOAD, encode};
use super::pipe::{EpochStream, Queues, lock};
use super::port::{Port, Received};

const STEPS_PER_POLL: usize = 16;

/// Where new epochs are picked up. Only the newest counts: an older one that nobody took is dead already.
#[derive(Clone, Default)]
pub struct Arrivals {
    newest: Arc<Mutex<Option<EpochStream>>>,
    arrived: Arc<Notify>,
}

impl Arrivals {
    pub async fn next(&self) -> EpochStream {
        loop {
            let taken = self
                .newest
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
            match taken {
                Some(stream) => return stream,
                None => self.arrived.notified().await,
            }
        }
    }

    fn put(&self, stream: EpochStream) {
        *self.newest.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(stream);
        self.arrived.notify_one();
    }
}

struct Epoch {
    id: u64,
    queues: Arc<Mutex<Queues>>,
    received_data: bool,
    /// CLOSE was sent or received: nothing of this epoch is of interest any more.
    over: bool,
}

/// A future that moves bytes between the port and the current epoch for as long as it is polled; it ends only with
/// an error of the port itself.
pub struct Link<P> {
    port: P,
    arrivals: Arrivals,
    decoder: Decoder,
    epoch: Option<Epoch>,
    /// OPENED of this epoch is still to be written.
    answer: Option<u64>,
    /// CLOSE of this epoch is: its host goes on although it was given up.
    refusal: Option<u64>,
    /// What is left of the frame being written. It is always finished, so that the host does not take the next
    /// frame for the rest of it.
    writing: BytesMut,
    scratch: Box<[u8]>,
}

impl<P: Port> Link<P> {
    pub fn new(port: P, arrivals: Arrivals) -> Self {
        Self {
            port,
            arrivals,
            decoder: Decoder::default(),
            epoch: None,
            answer: None,
            refusal: None,
            writing: BytesMut::new(),
            scratch: vec![0; MAX_PAYLOAD].into_boxed_slice(),
        }
    }

    /// Whether anything was written.
    fn write_some(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.writing.is_empty() && !self.encode_next(cx) {
            return Ok(false);
        }
        match self.port.poll_write(cx, &self.writing) {
            Poll::Pending => return Ok(false),
            Poll::Ready(written) => self.writing.advance(written?),
        }
        Ok(true)
    }

    /// Puts the next frame, if there is one, into `writing`.
    fn encode_next(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(id) = self.answer.take() {
            encode(&mut self.writing, id, Kind::Opened, &[]);
            return true;
        }
        if let Some(id) = self.refusal.take() {
            encode(&mut self.writing, id, Kind::Close, &[]);
            return true;
        }
        let Some(epoch) = self.epoch.as_mut().filter(|epoch| !epoch.over) else {
            return false;
        };
        let mut queues = lock(&epoch.queues);
        if !queues.outbox.is_empty() {
            let payload = queues.take_output(MAX_PAYLOAD - super::frame::HEADER_LEN);
            encode(&mut self.writing, epoch.id, Kind::Data, &payload);
            return true;
        }
        if queues.finished {
            epoch.over = true;
            queues.end();
            encode(&mut self.writing, epoch.id, Kind::Close, &[]);
            return true;
        }
        queues.wake_link_on_change(cx);
        false
    }

    /// Whether anything was read.
    fn read_some(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if !self.wants_input(cx) {
            return Ok(false);
        }
        let room = self.decoder.room().min(self.scratch.len());
        match self.port.poll_read(cx, &mut self.scratch[..room]) {
            Poll::Pending => return Ok(false),
            Poll::Ready(received) => match received? {
                Received::Bytes(length) => {
                    self.decoder.push(&self.scratch[..length]);
                }
                Received::HostAway => self.host_away(),
            },
        }
        while let Some(frame) = self.decoder.next_frame() {
            self.handle(frame);
        }
        Ok(true)
    }

    fn host_away(&mut self) {
        // What the last host left unfinished stays so.
        self.decoder = Decoder::default();
        // The kernel gives bytes of a new host before it knows that there is one: who has just opened is no host that left.
        if self.epoch.as_ref().is_some_and(|epoch| epoch.received_data) {
            self.drop_epoch();
        }
    }

    /// A full inbox stops the reading, and with it the host.
    fn wants_input(&mut self, cx: &Context<'_>) -> bool {
        let Some(epoch) = &self.epoch else { return true };
        let mut queues = lock(&epoch.queues);
        let wants = queues.ended || queues.finished || queues.has_room();
        if !wants {
            queues.wake_link_on_change(cx);
        }
        wants
    }

    fn handle(
        &mut self,
        Frame {
            epoch: id,
            kind,
            payload,
        }: Frame,
    ) {
        let current = self.epoch.as_mut().filter(|epoch| epoch.id == id);
        match (kind, current) {
            (Kind::Open, None) => self.open(id),
            // Our answer may have been lost in the tail of an older frame.
            (Kind::Open, Some(epoch)) if !epoch.received_data && !epoch.over => self.answer = Some(id),
            (Kind::Data, Some(epoch)) if !epoch.over => {
                epoch.received_data = true;
                let mut queues = lock(&epoch.queues);
                if !queues.finished {
                    queues.deliver(&payload);
                }
            }
            (Kind::Data, Some(epoch)) => self.refusal = Some(epoch.id),
            (Kind::Close, Some(epoch)) => {
                epoch.over = true;
                lock(&epoch.queues).end_input();
            }
            _ => {}
        }
    }

    fn open(&mut self, id: u64) {
        self.drop_epoch();
        let queues = Arc::new(Mutex::new(Queues::default()));
        self.arrivals.put(EpochStream::new(Arc::clone(&queues)));
        self.epoch = Some(Epoch {
            id,
            queues,
            received_data: false,
            over: false,
        });
        self.answer = Some(id);
    }

    /// The host cannot come back to an epoch: a new connection of the host is a new epoch.
    fn drop_epoch(&mut self) {
        if let Some(epoch) = &mut self.epoch {
            epoch.over = true;
            lock(&epoch.queues).end();
        }
        self.answer = None;
        self.refusal = None;
    }
}

impl<P: Port + Unpin> Future for Link<P> {
    type Output = io::Error;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Error> {
        let link = &mut *self;
        for _ in 0..STEPS_PER_POLL {
            let progress = match (link.write_some(cx), link.read_some(cx)) {
                (Ok(written), Ok(read)) => written || read,
                (Err(error), _) | (_, Err(error)) => return Poll::Ready(error),
            };
            if !progress {
                return Poll::Pending;
            }
        }
        // A host that floods the port does not get the only thread for itself.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
