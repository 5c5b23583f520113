//! The built binary against a fake daemon over a real socket, and against a real keeper.

mod copy;
mod hands;
mod handshake;
mod keeper;
mod relay;
mod resume;
mod stand_in;
mod stand_in_root;
mod support;
mod terminal;
