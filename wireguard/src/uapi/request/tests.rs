//! Requests: what is written is read, and what is wrong is refused.

use proptest::prelude::*;

use super::*;
use crate::testing::{Seeded, requests};

fn parse(text: &str) -> Result<Option<Request>, UapiError> {
    let mut parser = RequestParser::default();
    for line in text.lines() {
        if let Some(request) = parser.line(line)? {
            return Ok(Some(request));
        }
    }
    Ok(None)
}

fn hex(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

/// The example of the public page, with a peer that goes.
#[test]
fn what_wg_writes_is_read() {
    let (own, a, b, psk) = (hex(1), hex(2), hex(3), hex(4));
    let text = format!(
        "set=1\nprivate_key={own}\nfwmark=0\nlisten_port=12912\nreplace_peers=true\n\
         public_key={a}\npreshared_key={psk}\nreplace_allowed_ips=true\n\
         allowed_ip=192.168.4.4/32\nendpoint=[abcd:23::33%2]:51820\nprotocol_version=1\n\
         public_key={b}\nremove=true\n\n"
    );
    let Ok(Some(Request::Set(request))) = parse(&text) else {
        panic!("not read")
    };
    let key = |n| PublicKey::new([n; 32]);
    assert_eq!(
        (request.fwmark, request.listen_port),
        (Some(0), Some(12912))
    );
    assert!(request.replace_peers);
    let [PeerRequest::Set(change), PeerRequest::Remove(gone)] = &request.peers[..] else {
        panic!("{request:?}")
    };
    assert_eq!((change.public_key, *gone), (key(2), key(3)));
    assert_eq!(
        change.endpoint,
        Some("[abcd:23::33%2]:51820".parse().unwrap())
    );
    assert_eq!(change.preshared_key, Some(Some(PresharedKey::new([4; 32]))));
    assert_eq!(
        change.allowed_ips,
        [AllowedIpChange::Add("192.168.4.4/32".parse().unwrap())]
    );
}

#[test]
fn what_is_not_the_protocol_is_refused_without_showing_secrets() {
    let (a, secret) = (hex(2), hex(0xab));
    let long = format!("{secret}0");
    for (bad, part) in [
        ("get=2\n\n".to_owned(), "get=1 or set=1"),
        ("get=1\nfwmark=1\n\n".to_owned(), "\"fwmark\" is not known"),
        (format!("set=1\n{secret}\n\n"), "line 2: write key=value"),
        (format!("set=1\n{secret}=\n\n"), "line 2: write key=value"),
        (
            format!("set=1\nprivate_key={long}\n\n"),
            "line 2: the value of private_key",
        ),
        (
            format!("set=1\nprivate_key={secret}\nprivate_key={secret}\n"),
            "line 3: private_key",
        ),
        ("set=1\nfwmark=0x10\n".to_owned(), "the value of fwmark"),
        (
            "set=1\nendpoint=1.2.3.4:5\n".to_owned(),
            "\"endpoint\" is not known",
        ),
        (
            format!("set=1\npublic_key={a}\nlisten_port=1\n"),
            "\"listen_port\"",
        ),
        (
            format!("set=1\npublic_key={a}\nremove=false\n"),
            "the value of remove",
        ),
        (
            format!("set=1\npublic_key={a}\nremove=true\nendpoint=1.2.3.4:5\n"),
            "\"endpoint\"",
        ),
        (
            format!("set=1\npublic_key={a}\nendpoint=1.2.3.4:5\nremove=true\n"),
            "remove",
        ),
        (
            format!("set=1\npublic_key={a}\nallowed_ip=::/0\nreplace_allowed_ips=true\n"),
            "late",
        ),
        (
            format!("set=1\npublic_key={a}\nprotocol_version=2\n"),
            "write 1",
        ),
        (
            format!("set=1\npublic_key={a}\npreshared_key={}\n", &secret[1..]),
            "preshared_key",
        ),
    ] {
        let error = parse(&bad).expect_err(&bad).to_string();
        assert!(error.contains(part), "{bad}: {error}");
        assert!(!error.contains("abab"), "{error}");
    }
}

#[test]
fn a_request_is_bounded() {
    let mut parser = RequestParser::default();
    parser.line("set=1").unwrap();
    parser.line(&format!("public_key={}", hex(2))).unwrap();
    let error = (0..=MAX_LINES).find_map(|_| parser.line("allowed_ip=::/0").err());
    assert!(matches!(error, Some(UapiError::TooLong(n)) if n == MAX_LINES + 1));
}

proptest! {
    #[test]
    fn what_is_written_is_read(requests in prop::collection::vec(requests::request(), 1..4)) {
        let mut parser = RequestParser::default();
        for request in requests {
            let request = Request::Set(request);
            let text = render_request(&request);
            let (mut lines, mut read) = (text.lines(), None);
            while let (None, Some(line)) = (&read, lines.next()) {
                read = parser.line(line).unwrap();
            }
            prop_assert_eq!(read, Some(request));
            prop_assert_eq!(lines.next(), None);
            prop_assert!(!parser.is_within());
        }
    }
}

/// Cut, flipped, doubled and swapped text: no panic, and what is accepted survives being written.
#[test]
#[allow(clippy::cast_possible_truncation)] // smaller than a length
fn mutations_are_survived() {
    let mut rng = Seeded::new(7);
    let key = PublicKey::new([2; 32]);
    let mut change = PeerChange::new(key);
    change.endpoint = Some("[fe80::1%3]:51820".parse().unwrap());
    change.preshared_key = Some(Some(PresharedKey::new([4; 32])));
    change.other_preshared_key = Some(Some(PresharedKey::new([6; 32])));
    change.other_public_key = Some(Some(PublicKey::new([5; 32])));
    change.persistent_keepalive = Some(25);
    change.allowed_ips = vec![
        AllowedIpChange::Add("10.0.0.0/26".parse().unwrap()),
        AllowedIpChange::Remove("fd00::/122".parse().unwrap()),
    ];
    let request = SetRequest {
        private_key: Some(Some(PrivateKey::new([1; 32]))),
        other_private_key: Some(Some(PrivateKey::new([3; 32]))),
        listen_port: Some(51820),
        fwmark: Some(7),
        replace_peers: true,
        peers: vec![PeerRequest::Set(change), PeerRequest::Remove(key)],
    };
    let specimen = render_request(&Request::Set(request)).as_bytes().to_vec();
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = specimen.clone();
        for _ in 0..=rng.next() % 3 {
            let pick = |rng: &mut Seeded, n: usize| (rng.next() % n.max(1) as u64) as usize;
            let at = pick(&mut rng, bytes.len());
            match rng.next() % 4 {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << pick(&mut rng, 7),
                2 => bytes.insert(at, b"=\n-/:0atrue"[pick(&mut rng, 11)]),
                _ => {
                    // A line in another place.
                    let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
                    let (a, b) = (pick(&mut rng, lines.len()), pick(&mut rng, lines.len()));
                    lines.swap(a, b);
                    bytes = lines.join(&b'\n');
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(Some(request)) = parse(&text) {
            accepted += 1;
            assert_eq!(
                parse(&render_request(&request)).unwrap(),
                Some(request),
                "{text}"
            );
        }
    }
    assert!(
        accepted > 100,
        "{accepted}: the mutations are too wild to test anything"
    );
}
