//! The link of docs/link.md: turns a serial port, which has neither connections nor boundaries, into a sequence of
//! epochs, each one clean byte stream.

mod epoch;
mod frame;
mod pipe;
mod port;

pub use epoch::{Arrivals, Link};
pub use frame::{Decoder, Frame, HEADER_LEN, Kind, MAX_FRAME, MAX_PAYLOAD, encode};
pub use pipe::EpochStream;
pub use port::{Port, Received, SocketPort, VirtioPort, find_virtio_port};
