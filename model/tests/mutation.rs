//! Every decoder of outside bytes, fed with mutated good input: it never panics, and what it
//! accepts it can write and read again. Seeded, so a failure comes again; `fuzz/` digs deeper.
#![allow(clippy::unwrap_used)] // clippy only exempts the #[test] functions themselves

use model::block::{Block, Identity};
use model::kv::Event;
use model::snapshot::Snapshot;
use model::{Selector, manifest, validate};

/// xorshift64*: small, fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`, or 0 when `n` is 0.
    fn below(&mut self, n: usize) -> usize {
        let n = n.max(1) as u64;
        usize::try_from(self.next() % n).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A part of a sample, in bounds.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.below(len + 1), self.below(len + 1));
        a.min(b)..a.max(b)
    }
}

/// What trips parsers up.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b":",
    b",",
    b"\n",
    b"\n  ",
    b"\n---\n",
    b"- ",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!binary ",
    b"!!str ",
    b"? ",
    b"| ",
    b"> ",
    b"# ",
    b"%YAML 1.2\n",
    b"\\u0000",
    b"\\ud83d",
    b"\\",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    b"\t",
    b"~",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b".nan",
    b"0x10",
    b"0o7",
    b"4294967296",
    b"18446744073709551616",
    b"1.10",
    b"/",
    b"..",
    b"::",
    b"/33",
    b"/129",
    b"all()",
    b"&&",
    b"||",
    b"!",
    b"(",
    b")",
    b"spec",
    b"metadata",
    b"status",
    b"items",
    b"kind: List",
    b"name",
    b"labels",
    b"cidr",
    b"used",
];

fn mutate(random: &mut Random, seeds: &[&[u8]]) -> Vec<u8> {
    let mut out = random.pick(seeds).to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        match random.below(7) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 => out.truncate(at),
            2 => {
                let cut = random.range(out.len().min(at + 16));
                out.drain(cut);
            }
            3 => {
                let copied = out[random.range(out.len())].to_vec();
                out.splice(at..at, copied);
            }
            4 => {
                let other: &[u8] = random.pick(seeds);
                let part = other[random.range(other.len())].to_vec();
                out.splice(at..at, part);
            }
            _ => {
                let token = random.pick(TOKENS);
                out.splice(at..at, token.iter().copied());
            }
        }
        out.truncate(4096);
    }
    out
}

/// Feeds `rounds` mutated inputs; says how many were accepted, which must be some but not all.
fn feed(rounds: usize, seeds: &[&[u8]], mut accepts: impl FnMut(&[u8]) -> bool) {
    let mut random = Random(0x5eed_0000_0000_0001 + rounds as u64);
    for seed in seeds {
        assert!(
            accepts(seed),
            "a seed is refused: {}",
            String::from_utf8_lossy(seed)
        );
    }
    let accepted = (0..rounds)
        .filter(|_| accepts(&mutate(&mut random, seeds)))
        .count();
    assert!(
        accepted > rounds / 1000 && accepted < rounds,
        "{accepted} of {rounds} accepted"
    );
}

const POOL: &[u8] = b"apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p, labels: {a: b}}\nspec:\n  cidr: 10.0.0.0/16\n  ipipMode: Never\n  nodeSelector: rack == 'a'\n";
const LIST: &[u8] = br#"{"kind": "List", "apiVersion": "v1", "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}]}"#;
const TWO: &[u8] = b"apiVersion: routerd/v1\nkind: Node\nmetadata:\n  name: n\n  annotations: {x: y}\nspec:\n  bgp: &b\n    asNumber: \"1.10\"\n    ipv4Address: 192.0.2.1/24\n---\napiVersion: routerd/v1\nkind: MeshConfiguration\nmetadata:\n  name: default\n";
const ENDPOINT: &[u8] = br#"{"apiVersion":"routerd/v1","kind":"WorkloadEndpoint","metadata":{"name":"web","namespace":"shop","labels":{"app":"web"},"uid":"1"},"spec":{"node":"a","interfaceName":"tap0","ipNetworks":["10.0.0.1/32"],"mac":"02:00:00:00:00:01","ports":[{"name":"h","protocol":"TCP","port":80},{"protocol":6,"port":1}]}}"#;
const STORED_POOL: &[u8] = br#"{"apiVersion":"routerd/v1","kind":"IPPool","metadata":{"name":"p"},"spec":{"cidr":"fd00::/64","blockSize":122,"vxlanMode":"Always","allowedUses":["Workload"],"assignmentMode":"Automatic"}}"#;
const STORED_MESH: &[u8] = br#"{"apiVersion":"routerd/v1","kind":"MeshConfiguration","metadata":{"name":"default"},"spec":{"mtu":1450,"vxlanPort":4789,"vxlanVNI":4096}}"#;
const STORED_PEER: &[u8] = br#"{"apiVersion":"routerd/v1","kind":"BGPPeer","metadata":{"name":"p"},"spec":{"nodeSelector":"has(a)","peerIP":"[fd00::1]:1179","asNumber":65001,"maxRestartTime":"1m30s","bfd":{"transmitIntervalMs":300,"receiveIntervalMs":300,"multiplier":3},"password":{"secretKeyRef":{"name":"s","key":"k"}}}}"#;
const STORED_FILTER: &[u8] = br#"{"apiVersion":"routerd/v1","kind":"BGPFilter","metadata":{"name":"f"},"spec":{"importV4":[{"action":"Accept","matchOperator":"In","cidr":"10.0.0.0/8","prefixLength":{"min":9},"communities":{"values":["1:2:3"]},"operations":[{"addCommunity":{"value":"1:2"}}]}]}}"#;
const STORED_SECRET: &[u8] = br#"{"apiVersion":"routerd/v1","kind":"Secret","metadata":{"name":"s"},"spec":{"data":{"k":"c2VjcmV0"}}}"#;
const POLICY: &[u8] = b"apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  order: 10.5\n  selector: app == 'db'\n  ingress:\n    - action: Allow\n      protocol: TCP\n      source: {selector: has(a), notNets: [10.0.0.0/8]}\n      destination: {ports: [80, '1:9', http]}\n    - {action: Deny, protocol: 1, icmp: {type: 8}}\n";
const KUBERNETES: &[u8] = b"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  podSelector: {matchLabels: {a: b}}\n  egress:\n    - to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9]}}, {namespaceSelector: {}}]\n      ports: [{port: 80, endPort: 90}, {port: http, protocol: UDP}]\n";
const STORED_POLICY: &[u8] = br#"{"apiVersion":"routerd/v1","kind":"StagedGlobalNetworkPolicy","metadata":{"name":"p"},"spec":{"stagedAction":"Set","tier":"t","order":-1.5,"namespaceSelector":"has(a)","types":["Egress"],"egress":[{"action":"Pass","ipVersion":4,"notProtocol":"UDP","destination":{"notPorts":["5:6"],"namespaceSelector":"global()"}}]}}"#;
const STORED_HOST: &[u8] = br#"{"apiVersion":"routerd/v1","kind":"HostEndpoint","metadata":{"name":"h"},"spec":{"node":"a","interfaceName":"eth0","expectedIPs":["192.0.2.1"],"ports":[{"name":"ssh","protocol":"TCP","port":22}]}}"#;
const BLOCK: &[u8] = br#"{"version":1,"cidr":"10.0.0.0/26","node":"a","used":{"0":{"handle":"h","node":"a"},"63":{"handle":"i","node":"b"}},"cooldown":{"1":1700000000000}}"#;
const IDENTITY: &[u8] =
    br#"{"version":1,"addresses":["10.0.0.1","fd00::1"],"blocks":["10.0.0.0/26","fd00::/122"]}"#;

#[test]
fn manifests() {
    let seeds = &[POOL, LIST, TWO, ENDPOINT, POLICY, KUBERNETES];
    feed(6_000, seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match manifest::parse(&text) {
            Ok(objects) => {
                for object in objects {
                    let yaml = manifest::to_yaml(&object);
                    let read = manifest::parse(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
                    assert_eq!(read, std::slice::from_ref(&object), "{yaml}");
                    let _ = validate::validate(&object);
                }
                true
            }
            Err(e) => {
                assert!(!e.to_string().is_empty());
                false
            }
        }
    });
}

#[test]
fn stored_objects() {
    feed(
        40_000,
        &[
            ENDPOINT,
            STORED_POOL,
            STORED_MESH,
            STORED_PEER,
            STORED_FILTER,
            STORED_SECRET,
            STORED_POLICY,
            STORED_HOST,
        ],
        |bytes| match manifest::decode_stored(bytes) {
            Ok(mut object) => {
                let again = manifest::decode_stored(&manifest::encode_stored(&object)).unwrap();
                object.metadata_mut().resource_version = None;
                assert_eq!(again, object);
                let _ = validate::validate(&object);
                true
            }
            Err(e) => {
                assert!(!e.to_string().is_empty());
                false
            }
        },
    );
}

#[test]
fn blocks_and_identities() {
    feed(50_000, &[BLOCK], |bytes| {
        let block = Block::decode(bytes);
        block
            .as_ref()
            .is_ok_and(|b| Block::decode(&b.encode()) == block)
    });
    feed(50_000, &[IDENTITY], |bytes| {
        let identity = Identity::decode(bytes);
        identity
            .as_ref()
            .is_ok_and(|i| Identity::decode(&i.encode()) == identity)
    });
}

#[test]
fn selectors() {
    let seeds: &[&[u8]] = &[
        b"a == 'b' && (has(c) || !d in {'e', \"f\"})",
        b"x.io/y not in {'z'} || k starts with 'v' && l ends with 'w'",
        b"!!all() && name contains \"it's\" || global()",
    ];
    feed(80_000, seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match text.parse::<Selector>() {
            Ok(selector) => {
                let again = selector.to_string().parse::<Selector>();
                assert_eq!(again.as_ref(), Ok(&selector), "{selector}");
                true
            }
            Err(e) => {
                assert!(text.is_char_boundary(e.at), "{text}: {e}");
                false
            }
        }
    });
}

#[test]
fn events_of_a_hostile_store() {
    let keys: &[&[u8]] = &[
        b"resources/workloadendpoints/shop/web",
        b"resources/ippools/p",
        b"resources/meshconfigurations/default",
        b"ipam/blocks/10.0.0.0/26",
    ];
    let values: &[&[u8]] = &[ENDPOINT, STORED_POOL, STORED_MESH, BLOCK];
    let mut random = Random(77);
    let mut snapshot = Snapshot::default();
    for revision in 1..20_000 {
        let key = match random.below(3) {
            0 => mutate(&mut random, keys),
            _ => random.pick(keys).to_vec(),
        };
        let value = match random.below(4) {
            0 => None,
            1 => Some(random.pick(values).to_vec()),
            _ => Some(mutate(&mut random, values)),
        };
        let event = Event {
            key: String::from_utf8_lossy(&key).into_owned(),
            value,
            revision,
        };
        snapshot.apply("a", &event);
    }
    // Whatever came before, good values are taken.
    for (i, (key, value)) in keys
        .iter()
        .zip([ENDPOINT, STORED_POOL, STORED_MESH, BLOCK])
        .enumerate()
    {
        let key = String::from_utf8_lossy(key).into_owned();
        let revision = 20_000 + i64::try_from(i).unwrap();
        snapshot.apply(
            "a",
            &Event {
                key: key.clone(),
                value: Some(value.to_vec()),
                revision,
            },
        );
        assert!(!snapshot.rejected.contains_key(&key));
    }
    assert_eq!(
        (snapshot.local_endpoints.len(), snapshot.blocks.len()),
        (1, 1)
    );
    assert_eq!(snapshot.mesh.mtu, model::resources::Mtu::Bytes(1450));
}
