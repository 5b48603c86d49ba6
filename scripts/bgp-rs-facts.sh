#!/usr/bin/env bash
# Shows why bgp-rs is not the codec (docs/adr/0010-bgp-codec.md). Builds a throw-away crate outside the workspace.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "bgp-rs-facts"
version = "0.0.0"
edition = "2021"
[dependencies]
bgp-rs = "=0.6.0"
[profile.dev]
opt-level = 1
[workspace]
TOML
cat >"$dir/src/main.rs" <<'RUST'
use std::{collections::BTreeMap, panic, sync::Mutex};

use bgp_rs::{ASPath, Capabilities, PathAttribute, Reader, Segment};

/// Place of a panic, and the length of the shortest message that reached it.
static PANICS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
static LENGTH: Mutex<usize> = Mutex::new(0);

fn path(asns: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let segments = vec![Segment::AS_SEQUENCE(asns.to_vec())];
    ASPath { segments }.encode(&mut out).unwrap();
    out
}

fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend((23 + attributes.len() as u16 + nlri.len() as u16).to_be_bytes());
    out.extend([2, 0, 0]);
    out.extend((attributes.len() as u16).to_be_bytes());
    out.extend(attributes);
    out.extend(nlri);
    out
}

fn read(message: &[u8]) -> Option<bgp_rs::Message> {
    let capabilities = Capabilities { FOUR_OCTET_ASN_SUPPORT: true, ..Default::default() };
    let mut reader = Reader { stream: message, capabilities };
    reader.read().ok().map(|(_, message)| message)
}

fn main() {
    println!("AS_PATH [64512] is written as {:02x?}", path(&[64512]));
    let message = update(&[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 2, 0], &[]);
    if let Some(bgp_rs::Message::Update(update)) = read(&message) {
        println!("a 4-byte AS_PATH [512] is read as {:?}", update.attributes.get(1));
    }
    panic::set_hook(Box::new(|info| {
        let at = info.location().map(|l| l.to_string()).unwrap_or_default();
        let length = *LENGTH.lock().unwrap();
        let mut panics = PANICS.lock().unwrap();
        let shortest = panics.entry(at).or_insert(length);
        *shortest = length.min(*shortest);
    }));
    let mut out = Vec::new();
    let large = PathAttribute::LARGE_COMMUNITY(vec![(1, 2, 3)]);
    let encoded = panic::catch_unwind(panic::AssertUnwindSafe(|| large.encode(&mut out)));
    println!("a large community is encoded: {encoded:?} {out:02x?}");
    PANICS.lock().unwrap().clear();

    let mut state = 1u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let rounds = 2_000_000;
    for _ in 0..rounds {
        let mut attributes = Vec::new();
        for _ in 0..random(4) {
            let flags = [0x40, 0x80, 0xc0, 0x50, 0x90][random(5)];
            let length = random(24);
            let code = [14, 15, 16, 2, 128, random(45)][random(6)];
            attributes.extend([flags, code as u8]);
            if flags & 0x10 != 0 {
                attributes.push(0);
            }
            attributes.push(length as u8);
            let mut value: Vec<u8> = (0..length).map(|_| random(8) as u8).collect();
            let families = [[0, 1, 1], [0, 2, 1], [0, 1, 133], [0, 2, 128], [0, 25, 65], [64, 4, 71]];
            if (14..=15).contains(&code) && length > 3 {
                value[..3].copy_from_slice(&families[random(6)]);
            }
            attributes.extend(value);
        }
        let nlri: Vec<u8> = (0..random(8)).map(|_| random(40) as u8).collect();
        let message = update(&attributes, &nlri);
        *LENGTH.lock().unwrap() = message.len();
        let _ = panic::catch_unwind(|| read(&message));
    }
    let panics = PANICS.lock().unwrap();
    println!("{} places panic in {rounds} mutated UPDATEs; shortest message:", panics.len());
    for (place, length) in panics.iter() {
        let file = place.rsplit("bgp-rs-0.6.0/").next().unwrap_or(place);
        println!("  {length:3} bytes  {file}");
    }
}
RUST
# The crate prints each error it returns.
cargo run --quiet --manifest-path "$dir/Cargo.toml" --target-dir "$dir/target" 2>/dev/null
