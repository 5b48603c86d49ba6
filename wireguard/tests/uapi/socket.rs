//! Our client, and clients that misbehave.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use wireguard::control::{AllowedIpChange, PeerChange, PeerRequest, SetRequest};
use wireguard::keys::{PresharedKey, PublicKey};
use wireguard::uapi::{DeviceControl, Server, UapiError, client};

use crate::Fake;

const PATIENCE: Duration = Duration::from_secs(10);

fn start() -> (tempfile::TempDir, std::sync::Arc<Fake>, Server) {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let server = Server::start(&dir.path().join("wg"), "wg0", fake.clone()).unwrap();
    (dir, fake, server)
}

#[test]
fn a_mesh_is_told_and_asked() {
    let (_dir, fake, server) = start();
    let peers = (0..500u16).map(|n| {
        let mut key = [3; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        let [high, low] = n.to_be_bytes();
        PeerRequest::Set(PeerChange {
            preshared_key: Some(Some(PresharedKey::new(key))),
            endpoint: Some(([192, 0, 2, 1], n).into()),
            allowed_ips: ["10.H.L.0/26", "10.H.L.64/26", "fd00:0:H:L::/122"]
                .map(|p| {
                    p.replace('H', &high.to_string())
                        .replace('L', &low.to_string())
                })
                .map(|p| AllowedIpChange::Add(p.parse().unwrap()))
                .into(),
            ..PeerChange::new(PublicKey::new(key))
        })
    });
    let request = SetRequest {
        fwmark: Some(7),
        listen_port: Some(51820),
        peers: peers.collect(),
        ..SetRequest::default()
    };
    client::set(server.path(), request).unwrap();
    let state = client::get(server.path(), PATIENCE).unwrap();
    assert_eq!(state, fake.get().unwrap());
    assert_eq!(
        (state.peers.len(), state.fwmark, state.listen_port),
        (500, 7, 51820)
    );
    assert!(state.peers.values().all(|p| p.allowed_ips.len() == 3));
}

#[test]
fn the_devices_no_reaches_the_client() {
    let (_dir, _, server) = start();
    let request = SetRequest {
        listen_port: Some(666),
        ..SetRequest::default()
    };
    let error = client::set(server.path(), request).unwrap_err();
    assert!(
        matches!(&error, UapiError::Refused { source, .. } if source.raw_os_error() == Some(98))
    );
    let request = SetRequest {
        private_key: Some(None),
        ..SetRequest::default()
    };
    let error = client::set(server.path(), request).unwrap_err();
    assert!(
        matches!(&error, UapiError::Refused { source, .. } if source.raw_os_error() == Some(22))
    );
}

/// More than the buffers of a socket hold, and a server that stops reading at the first peer.
#[test]
fn a_refusal_in_the_middle_of_a_long_request_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wg0.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 20]).unwrap();
        stream.write_all(b"errno=-22\n\n").unwrap();
    });
    let gone = (0..30_000u32).map(|n| {
        let mut key = [3; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        PeerRequest::Remove(PublicKey::new(key))
    });
    let request = SetRequest {
        peers: gone.collect(),
        ..SetRequest::default()
    };
    let error = client::set(&path, request).unwrap_err();
    server.join().unwrap();
    assert!(
        matches!(&error, UapiError::Refused { source, .. } if source.raw_os_error() == Some(22)),
        "{error}"
    );
}

fn talk(server: &Server, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(server.path()).unwrap();
    // The server may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn half_a_request_changes_nothing_and_nonsense_ends_the_conversation() {
    let (_dir, fake, server) = start();
    assert_eq!(
        talk(&server, b"set=1\nfwmark=5\n\nset=1\nfwmark=6\n"),
        "errno=0\n\n"
    );
    assert_eq!(
        talk(&server, b"set=1\nfwmark=7\nnonsense\n\nget=1\n\n"),
        "errno=-22\n\n"
    );
    assert_eq!(talk(&server, &[b'x'; 1 << 20]), "");
    assert_eq!(talk(&server, b"\xff\n"), "");
    assert_eq!(fake.get().unwrap().fwmark, 5);
    let twice = talk(&server, b"get=1\n\nget=1\n\n");
    assert_eq!(twice.matches("errno=0\n\n").count(), 2);
}

#[test]
fn silent_clients_do_not_keep_others_out_for_long_and_not_the_server_alive() {
    let (_dir, _, server) = start();
    let idle: Vec<_> = (0..15)
        .map(|_| UnixStream::connect(server.path()).unwrap())
        .collect();
    assert!(talk(&server, b"get=1\n\n").ends_with("errno=0\n\n"));
    let path = server.path().to_owned();
    drop(server);
    assert!(!path.exists());
    for mut stream in idle {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn only_root_may_connect_and_only_one_may_serve() {
    let (_dir, fake, server) = start();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(server.path()), 0o600);
    let directory = server.path().parent().unwrap().to_owned();
    assert_eq!(mode(&directory), 0o700);
    let error = Server::start(&directory, "wg0", fake.clone()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    // What a dead process left is no obstacle.
    drop(UnixListener::bind(directory.join("wg1.sock")).unwrap());
    let other = Server::start(&directory, "wg1", fake).unwrap();
    assert!(client::get(other.path(), PATIENCE).is_ok());
    assert!(client::get(server.path(), PATIENCE).is_ok());
}
