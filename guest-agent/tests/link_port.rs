//! The link over a port as the guest's kernel has it: bytes can arrive before the word that a host is there at all.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use hrun_agent::link::{Arrivals, Decoder, Kind, Link, Port, Received, encode};
use hyper::rt::{Read, ReadBuf};

const EPOCH: u64 = 7;

/// Gives its reads one after the other, and takes writes only while a host is there.
#[derive(Clone, Default)]
struct Script(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    reads: VecDeque<Received>,
    bytes: VecDeque<u8>,
    written: BytesMut,
    host_is_there: bool,
}

impl Script {
    fn receives(&self, kind: Kind, payload: &[u8]) {
        let mut frame = BytesMut::new();
        encode(&mut frame, EPOCH, kind, payload);
        let mut state = self.0.borrow_mut();
        state.reads.push_back(Received::Bytes(frame.len()));
        state.bytes.extend(frame);
    }

    fn finds_host_away(&self) {
        self.0.borrow_mut().reads.push_back(Received::HostAway);
    }

    fn host_is_there(&self) {
        self.0.borrow_mut().host_is_there = true;
    }

    /// Kinds of the frames written since it was last asked.
    fn written(&self) -> Vec<Kind> {
        let mut decoder = Decoder::default();
        decoder.push(&self.0.borrow_mut().written.split());
        std::iter::from_fn(|| decoder.next_frame())
            .map(|frame| frame.kind)
            .collect()
    }
}

impl Port for Script {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Received>> {
        let mut state = self.0.borrow_mut();
        match state.reads.pop_front() {
            Some(Received::Bytes(length)) => {
                let bytes = state.bytes.drain(..length).collect::<Vec<_>>();
                buffer[..length].copy_from_slice(&bytes);
                Poll::Ready(Ok(Received::Bytes(length)))
            }
            Some(Received::HostAway) => Poll::Ready(Ok(Received::HostAway)),
            None => Poll::Pending,
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        if !state.host_is_there {
            return Poll::Pending;
        }
        state.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
}

fn poll<F: Future + Unpin>(future: &mut F) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(future).poll(&mut context).is_pending());
}

/// What the newest epoch has received.
fn received(arrivals: &Arrivals) -> Vec<u8> {
    let mut context = Context::from_waker(Waker::noop());
    let mut next = Box::pin(arrivals.next());
    let Poll::Ready(mut stream) = next.as_mut().poll(&mut context) else {
        panic!("no epoch was opened");
    };
    let mut storage = [0; 64];
    let mut buffer = ReadBuf::new(&mut storage);
    assert!(
        Pin::new(&mut stream)
            .poll_read(&mut context, buffer.unfilled())
            .is_ready()
    );
    buffer.filled().to_vec()
}

#[test]
fn an_epoch_opened_before_the_host_is_known_to_be_there_is_served() {
    let (script, arrivals) = (Script::default(), Arrivals::default());
    let mut link = Link::new(script.clone(), arrivals.clone());
    script.receives(Kind::Open, &[]);
    script.finds_host_away();
    poll(&mut link);
    script.host_is_there();
    poll(&mut link);
    assert_eq!(script.written(), [Kind::Opened]);
    script.receives(Kind::Data, b"hello");
    poll(&mut link);
    assert_eq!(received(&arrivals), b"hello");
}

#[test]
fn a_host_that_was_given_up_is_told_when_it_goes_on() {
    let (script, arrivals) = (Script::default(), Arrivals::default());
    let mut link = Link::new(script.clone(), arrivals);
    script.host_is_there();
    script.receives(Kind::Open, &[]);
    script.receives(Kind::Data, b"a");
    script.finds_host_away();
    poll(&mut link);
    assert_eq!(script.written(), [Kind::Opened]);
    script.receives(Kind::Data, b"b");
    poll(&mut link);
    assert_eq!(script.written(), [Kind::Close]);
}
