//! RFC 8439's test vectors against the vector kernels themselves.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn supported() -> bool {
    let here = Supported::detect().is_some();
    if !here {
        println!("no AVX-512 IFMA on this CPU: only ring can be tested here");
    }
    here
}

/// One ChaCha20 block computed in lane `lane`, with unrelated packets in all others.
fn chacha_block(lane: usize, key: &[u8], nonce: &[u8], counter: u32) -> [u8; 64] {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn inner(rows: &[[u32; LANES]; 16]) -> [[u8; 64]; LANES] {
        let mut state: State = [_mm512_setzero_si512(); 16];
        for (word, row) in state.iter_mut().zip(rows) {
            *word = words(row);
        }
        transpose_words(block(&state)).map(|x| {
            let mut out = [0; 64];
            // SAFETY: the array is one register wide.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) };
            out
        })
    }
    let mut input = b"expand 32-byte k".to_vec();
    input.extend_from_slice(key);
    input.extend_from_slice(&counter.to_le_bytes());
    input.extend_from_slice(nonce);
    let mut rows: [[u32; LANES]; 16] = std::array::from_fn(|w| {
        std::array::from_fn(|p| (w * 0x0101_4567 + p * 0x89ab_0101) as u32)
    });
    for (row, word) in rows.iter_mut().zip(input.chunks_exact(4)) {
        row[lane] = u32::from_le_bytes(word.try_into().unwrap());
    }
    // SAFETY: `supported` was asked before.
    let blocks = unsafe { inner(&rows) };
    blocks[lane]
}

/// Poly1305 over whole blocks in lane `lane`, with unrelated packets in all others.
fn poly1305(lane: usize, key: &[u8], message: &[u8]) -> Vec<u8> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn inner(key: &[[u64; 8]; 8], blocks: &[[[u64; 8]; 2]]) -> [u128; 8] {
        let load = |x: &[u64; 8]| {
            // SAFETY: the array is one register wide.
            unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
        };
        let mut poly = Poly::new(key.each_ref().map(load));
        for [low, high] in blocks {
            poly.h = poly.absorb(load(low), load(high));
        }
        poly.tags()
    }
    assert_eq!(message.len() % 16, 0);
    let mut words: [[u64; 8]; 8] = std::array::from_fn(|w| {
        std::array::from_fn(|p| (w * 77 + p * 0x0fff_fff1) as u64 & 0xffff_ffff)
    });
    for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
        word[lane] = u64::from(u32::from_le_bytes(bytes.try_into().unwrap()));
    }
    let blocks: Vec<[[u64; 8]; 2]> = message
        .chunks_exact(16)
        .map(|b| {
            let mut halves = [[u64::MAX; 8]; 2];
            halves[0][lane] = u64::from_le_bytes(b[..8].try_into().unwrap());
            halves[1][lane] = u64::from_le_bytes(b[8..].try_into().unwrap());
            halves
        })
        .collect();
    // SAFETY: `supported` was asked before.
    let tags = unsafe { inner(&words, &blocks) };
    tags[lane].to_le_bytes().to_vec()
}

#[test]
fn chacha20_block_function() {
    if !supported() {
        return;
    }
    let rfc_2_3_2 = hex(
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e
         d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    );
    let key: Vec<u8> = (0..32).collect();
    let nonce = hex("000000090000004a00000000");
    let zero = hex(
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7
         da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    );
    for lane in 0..LANES {
        assert_eq!(chacha_block(lane, &key, &nonce, 1)[..], rfc_2_3_2);
        assert_eq!(
            chacha_block(lane, &[0; 32], &[0; 12], 0)[..],
            zero,
            "A.1 #1"
        );
    }
}

#[test]
fn poly1305_edges_of_the_modulus() {
    if !supported() {
        return;
    }
    // (r, s, message, tag) of appendix A.3, vectors 1 and 7 to 11.
    let zero = "00000000000000000000000000000000";
    let two = "02000000000000000000000000000000";
    let full = "ffffffffffffffffffffffffffffffff";
    let split = "01000000000000000400000000000000";
    let long = "e33594d7505e43b9000000000000000033 94d7505e4379cd010000000000000000000000000000000000000000000000";
    let longer = format!("{long} 01000000000000000000000000000000");
    let zeros = zero.repeat(4);
    for (r, s, message, tag) in [
        (zero, zero, zeros.as_str(), zero),
        (two, zero, full, "03000000000000000000000000000000"),
        (two, full, two, "03000000000000000000000000000000"),
        (
            two,
            zero,
            "fdffffffffffffffffffffffffffffff",
            "faffffffffffffffffffffffffffffff",
        ),
        (
            split,
            zero,
            longer.as_str(),
            "14000000000000005500000000000000",
        ),
        (split, zero, long, "13000000000000000000000000000000"),
    ] {
        for lane in 0..8 {
            let key = [hex(r), hex(s)].concat();
            assert_eq!(
                poly1305(lane, &key, &hex(message)),
                hex(tag),
                "{r} {message}"
            );
        }
    }
}

/// Section 2.8.2, with its associated data, from the two kernels.
#[test]
fn the_construction() {
    if !supported() {
        return;
    }
    let text = b"Ladies and Gentlemen of the class of '99: If I could offer you \
                 only one tip for the future, sunscreen would be it.";
    let key: Vec<u8> = (0x80..0xa0).collect();
    let nonce = hex("070000004041424344454647");
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let expected = hex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
         3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
         92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
         3ff4def08e4b7a9de576d26586cec64b6116",
    );
    for lane in 0..8 {
        let one_time = chacha_block(lane, &key, &nonce, 0);
        let sealed: Vec<u8> = text
            .chunks(64)
            .zip(1..)
            .flat_map(|(chunk, n)| {
                let stream = chacha_block(lane, &key, &nonce, n);
                chunk
                    .iter()
                    .zip(stream)
                    .map(|(a, b)| a ^ b)
                    .collect::<Vec<u8>>()
            })
            .collect();
        assert_eq!(sealed, expected);
        let padded = |bytes: &[u8]| {
            let mut out = bytes.to_vec();
            out.resize(bytes.len().next_multiple_of(16), 0);
            out
        };
        let lengths = [
            (aad.len() as u64).to_le_bytes(),
            (text.len() as u64).to_le_bytes(),
        ]
        .concat();
        let message = [padded(&aad), padded(&sealed), lengths].concat();
        assert_eq!(
            poly1305(lane, &one_time[..32], &message),
            hex("1ae10b594f09e26a7e902ecbd0600691")
        );
    }
}
