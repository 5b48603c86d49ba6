use std::net::Ipv4Addr;

use super::*;

#[tokio::test]
async fn what_is_sent_comes_in_by_either_family_and_a_port_that_is_taken_is_named() {
    let first = Sockets::open(0, 0).unwrap();
    let local = first.ports();
    let second = Sockets::open(0, 0).unwrap();
    let mut buffer = [0; BUFFER];
    for port in local.into_iter().flatten() {
        second.send(port, b"words").await;
        let (length, from) = first.receive(&mut buffer).await.unwrap();
        assert_eq!(
            (&buffer[..length], from.is_ipv6()),
            (&b"words"[..], port.is_ipv6())
        );
        assert!(Sockets::open(port.port(), 0).is_err());
    }
    assert!(first.try_receive(&mut buffer).is_err());
    // To nobody: lost.
    second
        .send((Ipv4Addr::new(127, 0, 0, 1), 9).into(), b"words")
        .await;
}
