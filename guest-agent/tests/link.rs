//! The agent's calls over the link, with hosts that come, go and break off.

mod support;

use std::time::Duration;

use bytes::BytesMut;
use hrun_agent::contract::{CreateContainerRequest, FailureReason, HelloRequest, InjectedFile, ListContainersRequest};
use hrun_agent::link::{HEADER_LEN, Kind, encode};
use support::{Wire, client_over, open_over, write_all};
use tonic::Code;

fn hello() -> HelloRequest {
    HelloRequest { protocol: 1 }
}

fn data(epoch: u64, payload: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(&mut bytes, epoch, Kind::Data, payload);
    bytes
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("answers in time")
}

#[tokio::test]
async fn greets() {
    let mut wire = Wire::new();
    wire.serve();
    let mut client = in_time(wire.connect(1)).await;
    let answer = in_time(client.hello(hello())).await.unwrap().into_inner();
    assert_eq!((answer.protocol, answer.personalized), (1, false));
    // the kernel makes it when it is first read, which is too early before the guest is personalized
    assert_eq!(answer.boot_id, "");
}

#[tokio::test]
async fn tells_the_reason_of_a_failure() {
    let mut wire = Wire::new();
    wire.serve();
    let mut client = in_time(wire.connect(1)).await;
    let refused = in_time(client.hello(HelloRequest { protocol: 2 })).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        refused.metadata().get("hrun-reason").unwrap(),
        FailureReason::InvalidRequest.as_str_name()
    );
    assert_eq!(refused.message(), "this agent speaks protocol 1, not 2");
}

#[tokio::test]
async fn a_host_killed_in_the_middle_of_a_frame_is_followed_by_the_next() {
    let mut wire = Wire::new();
    wire.serve();
    let mut epoch = 0;
    // A frame broken at its first byte, in its header, right behind it, in its payload, before its last byte.
    for keep in [1, 7, HEADER_LEN, HEADER_LEN + 100, HEADER_LEN + 4999] {
        epoch += 1;
        in_time(in_time(wire.connect(epoch)).await.hello(hello()))
            .await
            .unwrap();
        write_all(&wire.raw(), &data(epoch, &[b'x'; 5000])[..keep]).await;
    }
    in_time(in_time(wire.connect(99)).await.hello(hello())).await.unwrap();
}

#[tokio::test]
async fn bytes_of_a_dead_epoch_are_ignored() {
    let mut wire = Wire::new();
    wire.serve();
    let old = in_time(wire.open(1)).await;
    let mut client = in_time(wire.connect(2)).await;
    write_all(&wire.raw(), &data(1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).await;
    in_time(client.hello(hello())).await.unwrap();
    let mut close = BytesMut::new();
    encode(&mut close, 1, Kind::Close, &[]);
    write_all(&wire.raw(), &close).await;
    in_time(client.hello(hello())).await.unwrap();
    drop(old);
}

#[tokio::test]
async fn an_agent_that_starts_late_finds_its_host_behind_old_bytes() {
    let mut wire = Wire::new();
    let raw = wire.raw();
    for epoch in 1..20 {
        write_all(&raw, &data(epoch, &[b'x'; 4000])).await;
        write_all(&raw, b"hRL1 half a header").await;
    }
    // The agent gets to it only after the host has tried a few times.
    let late = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        wire.serve();
    };
    let (stream, ()) = in_time(async { tokio::join!(open_over(raw, 50), late) }).await;
    in_time(in_time(client_over(stream)).await.hello(hello()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_host_that_stops_reading_blocks_only_itself() {
    let mut wire = Wire::new();
    wire.serve();
    // Many answers that nobody takes: HTTP/2 pings need no flow control, so that they fill every queue there is.
    let deaf = in_time(wire.open(1)).await;
    let raw = wire.raw();
    write_all(&raw, &data(1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")).await;
    let ping = data(1, &b"\0\0\x08\x06\0\0\0\0\0abcdefgh".repeat(1000));
    let flood = async {
        loop {
            write_all(&raw, &ping).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_millis(500), flood).await.is_err(),
        "the agent takes it all"
    );
    drop(deaf);
    // The next host reads, and so gets everything moving again. A half-written frame may be in the way.
    in_time(in_time(wire.connect(2)).await.hello(hello())).await.unwrap();
}

#[tokio::test]
async fn a_new_connection_ends_the_old_one() {
    let mut wire = Wire::new();
    wire.serve();
    let mut first = in_time(wire.connect(1)).await;
    in_time(first.hello(hello())).await.unwrap();
    let mut second = in_time(wire.connect(2)).await;
    in_time(second.hello(hello())).await.unwrap();
    in_time(second.list_containers(ListContainersRequest {})).await.unwrap();
}

#[tokio::test]
async fn closes_the_epoch_when_the_host_speaks_no_http2() {
    let mut wire = Wire::new();
    wire.serve();
    let mut stream = in_time(wire.open(1)).await;
    write_all(&wire.raw(), &data(1, b"GET / HTTP/1.1\r\nHost: guest\r\n\r\n")).await;
    in_time(stream.drain_until_close()).await;
    in_time(in_time(wire.connect(2)).await.hello(hello())).await.unwrap();
}

#[tokio::test]
async fn a_large_request_arrives_whole() {
    let mut wire = Wire::new();
    wire.serve();
    let mut client = in_time(wire.connect(1)).await;
    let file = InjectedFile {
        destination: "/x".into(),
        content: vec![7; 1 << 20].into(),
        mode: 0,
    };
    let request = CreateContainerRequest {
        files: vec![file; 12],
        ..CreateContainerRequest::default()
    };
    let refused = in_time(client.create_container(request)).await.unwrap_err();
    assert_eq!(
        refused.metadata().get("hrun-reason").unwrap(),
        FailureReason::NotPersonalized.as_str_name()
    );
}
