//! One attachment of the host to a process: output from an offset on, input, terminal size, and at last the exit.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

use super::Process;
use super::input::Refused;
use crate::contract::attach_request::Message as Request;
use crate::contract::attach_response::Message as Response;
use crate::contract::{AttachOpen, AttachRequest, AttachResponse, InputAccepted, OutputChunk};
use crate::failure::{Failure, Result};

/// The responses. Ends after the exit, or when another attachment takes over.
pub struct Attachment {
    process: Arc<Process>,
    generation: u64,
    stdout_next: u64,
    stderr_next: u64,
    /// Output takes turns, so that a flood on one stream does not starve the other.
    stderr_turn: bool,
    input_told: Option<(u64, bool)>,
    exit_told: bool,
    refused: Arc<Mutex<Option<Failure>>>,
    requests: JoinHandle<()>,
}

/// Takes over from whoever was attached before.
pub fn attach(process: Arc<Process>, open: &AttachOpen, requests: Streaming<AttachRequest>) -> Result<Attachment> {
    let generation = {
        let mut state = process.lock();
        if open.stdout_offset > state.stdout.length() || open.stderr_offset > state.stderr.length() {
            return Err(Failure::invalid("an offset beyond what the process has written"));
        }
        // What lies below is safe with the host.
        state.stdout.acknowledge(open.stdout_offset);
        state.stderr.acknowledge(open.stderr_offset);
        state.attachment += 1;
        state.wake_attached();
        state.wake_pumps();
        state.attachment
    };
    let refused = Arc::new(Mutex::new(None));
    let requests = tokio::spawn(take_requests(
        Arc::clone(&process),
        generation,
        requests,
        Arc::clone(&refused),
    ));
    Ok(Attachment {
        process,
        generation,
        stdout_next: open.stdout_offset,
        stderr_next: open.stderr_offset,
        stderr_turn: false,
        input_told: None,
        exit_told: false,
        refused,
        requests,
    })
}

impl Stream for Attachment {
    type Item = Result<AttachResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(failure) = this
            .refused
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
        {
            return Poll::Ready(Some(Err(failure.into())));
        }
        let process = Arc::clone(&this.process);
        let mut state = process.lock();
        if state.attachment != this.generation {
            return Poll::Ready(Some(Err(Status::aborted("another attachment took over"))));
        }
        let input = (state.stdin.accepted(), state.stdin.closed());
        if this.input_told != Some(input) {
            this.input_told = Some(input);
            let (offset, closed) = input;
            return respond(Response::StdinAccepted(InputAccepted { offset, closed }));
        }
        this.stderr_turn = !this.stderr_turn;
        for from_stderr in [this.stderr_turn, !this.stderr_turn] {
            let (buffer, next) = if from_stderr {
                (&state.stderr, &mut this.stderr_next)
            } else {
                (&state.stdout, &mut this.stdout_next)
            };
            if let Some((offset, data)) = buffer.read(*next) {
                *next = offset + data.len() as u64;
                let chunk = OutputChunk { offset, data };
                return respond(if from_stderr {
                    Response::Stderr(chunk)
                } else {
                    Response::Stdout(chunk)
                });
            }
        }
        if this.exit_told {
            return Poll::Ready(None);
        }
        if let Some(exit) = state.final_word() {
            this.exit_told = true;
            return respond(Response::Exit(exit));
        }
        state.attached = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.requests.abort();
    }
}

fn respond(message: Response) -> Poll<Option<Result<AttachResponse, Status>>> {
    Poll::Ready(Some(Ok(AttachResponse { message: Some(message) })))
}

/// A host that breaks the rules ends its attachment, with the reason.
async fn take_requests(
    process: Arc<Process>,
    generation: u64,
    mut requests: Streaming<AttachRequest>,
    refused: Arc<Mutex<Option<Failure>>>,
) {
    while let Ok(Some(request)) = requests.message().await {
        if let Err(failure) = take_request(&process, generation, request) {
            *refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(failure);
            process.lock().wake_attached();
            return;
        }
    }
}

fn take_request(process: &Process, generation: u64, AttachRequest { message }: AttachRequest) -> Result<()> {
    let mut state = process.lock();
    if state.attachment != generation {
        return Ok(());
    }
    match message {
        Some(Request::Stdin(chunk)) => state.stdin.receive(chunk.offset, &chunk.data).map_err(refusal)?,
        Some(Request::StdinEnd(end)) => state.stdin.end(end.offset).map_err(refusal)?,
        Some(Request::Ack(ack)) => {
            let stdout = state.stdout.acknowledge(ack.stdout_offset);
            if !(stdout && state.stderr.acknowledge(ack.stderr_offset)) {
                return Err(Failure::invalid("acknowledged more than was written"));
            }
        }
        Some(Request::Resize(size)) => {
            drop(state);
            process.resize(&size);
            return Ok(());
        }
        Some(Request::OutputEnd(end)) => {
            if end.stdout {
                state.stdout.refuse();
            }
            if end.stderr {
                state.stderr.refuse();
            }
        }
        Some(Request::Open(_)) => return Err(Failure::invalid("an attachment is opened only once")),
        None => return Err(Failure::invalid("an empty message")),
    }
    state.wake_pumps();
    state.wake_attached();
    Ok(())
}

fn refusal(refused: Refused) -> Failure {
    Failure::invalid(match refused {
        Refused::Gap => "input with a gap before it",
        Refused::BeyondWindow => "input beyond the window",
    })
}
