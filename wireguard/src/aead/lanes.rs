//! ChaCha20-Poly1305 over sixteen packets at once with AVX-512, one packet in each 32-bit lane.
//!
//! ```text
//!  state word w of all 16 packets = one register      rounds need no shuffles
//!        │ 16×16 transpose
//!        ▼
//!  64 key-stream bytes of packet p = one register ─xor─► packet memory (masked at its end)
//!        │ ciphertext, 8×8 transpose
//!        ▼
//!  16-byte block b of 8 packets = two registers ─► Poly1305 in limbs of 44+44+42 bits (IFMA)
//! ```
//!
//! Packets may differ in key, counter and length; a lane that has ended is masked out. No branch and no
//! address depends on secret data: lengths and the final verdicts are public.
#![allow(unsafe_code)]
// packet memory is read and written through masked vector loads and stores
// Words are cut on purpose, and lengths are far below 2^63.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use std::arch::x86_64::*;

use subtle::ConstantTimeEq;

use super::plan::LANES;
use super::{Job, TAG_LEN};
use poly::Poly;

mod poly;
#[cfg(test)]
mod vectors;

/// Proof that this CPU has what the module needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Supported(());

impl Supported {
    pub(super) fn detect() -> Option<Supported> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma"))
        .then_some(Supported(()))
    }
}

/// Seals or opens the jobs at the positions `picked`, of which at most [`LANES`] are taken and which must
/// differ. Jobs without room for a tag are left alone.
pub(super) fn run<const SEAL: bool>(_: Supported, jobs: &mut [Job<'_>], picked: &[u8]) {
    let mut lanes = Lanes::default();
    for (lane, at) in picked.iter().take(LANES).enumerate() {
        let job = &mut jobs[usize::from(*at)];
        let Some(len) = job.text_len() else { continue };
        for (row, word) in lanes.key.iter_mut().zip(job.key.words()) {
            row[lane] = word;
        }
        lanes.counter[lane] = job.counter;
        lanes.len[lane] = len as u64;
        lanes.text[lane] = job.data.as_mut_ptr();
    }
    // SAFETY: `Supported` exists only where the CPU has these features. Every `text[lane]` points to at
    // least `len[lane]` bytes of a `&mut` slice that nobody else holds during the call (zero bytes for
    // an idle lane).
    let tags = unsafe { crypt::<SEAL>(&lanes) };
    for (at, tag) in picked.iter().zip(&tags) {
        let job = &mut jobs[usize::from(*at)];
        let Some((text, sent)) = job.data.split_last_chunk_mut::<TAG_LEN>() else {
            continue;
        };
        if SEAL {
            *sent = *tag;
            job.done = true;
        } else {
            job.done = u128::from_le_bytes(*sent)
                .ct_eq(&u128::from_le_bytes(*tag))
                .into();
            if !job.done {
                text.fill(0);
                sent.fill(0);
            }
        }
    }
}

/// Sixteen packets in the shape that the registers want.
struct Lanes {
    key: [[u32; LANES]; 8],
    counter: [u64; LANES],
    len: [u64; LANES],
    text: [*mut u8; LANES],
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes {
            key: [[0; LANES]; 8],
            counter: [0; LANES],
            len: [0; LANES],
            text: [std::ptr::NonNull::dangling().as_ptr(); LANES],
        }
    }
}

type State = [__m512i; 16];

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn words(row: &[u32; LANES]) -> __m512i {
    // SAFETY: the array is exactly one register wide and unaligned loads are asked for.
    unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
}

/// The lengths of lanes 0–7 and 8–15.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn len_halves(lanes: &Lanes) -> [__m512i; 2] {
    let len = &raw const lanes.len;
    // SAFETY: sixteen 64-bit lengths are exactly two registers, and unaligned loads are asked for.
    unsafe {
        [
            _mm512_loadu_si512(len.cast()),
            _mm512_loadu_si512(len.cast::<__m512i>().add(1)),
        ]
    }
}

/// En- or decrypts all lanes in place and returns the tags of their ciphertexts.
///
/// # Safety
/// For each lane `text` must be valid for reads and writes of `len` bytes, and lanes must not overlap.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
unsafe fn crypt<const SEAL: bool>(lanes: &Lanes) -> [[u8; TAG_LEN]; LANES] {
    let mut state: State = [_mm512_setzero_si512(); 16];
    for (word, constant) in
        state
            .iter_mut()
            .zip([0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574])
    {
        *word = _mm512_set1_epi32(constant);
    }
    for (word, row) in state[4..12].iter_mut().zip(&lanes.key) {
        *word = words(row);
    }
    // The nonce is 32 zero bits (word 13) and the counter.
    state[14] = words(&lanes.counter.map(|c| (c & 0xffff_ffff) as u32));
    state[15] = words(&lanes.counter.map(|c| (c >> 32) as u32));

    // Block 0 is the one-time authenticator key.
    let first = block(&state);
    let mut poly = [
        Poly::new([0, 1, 2, 3, 4, 5, 6, 7].map(|w| low_half(first[w]))),
        Poly::new([0, 1, 2, 3, 4, 5, 6, 7].map(|w| high_half(first[w]))),
    ];

    let longest = lanes.len.iter().copied().max().unwrap_or(0);
    let shortest = lanes.len.iter().copied().min().unwrap_or(0);
    let mut at = 0;
    while at < longest {
        state[12] = _mm512_add_epi32(state[12], _mm512_set1_epi32(1));
        // SAFETY: passed on from the caller; in the unmasked case all lanes have 64 bytes at `at`.
        unsafe {
            if shortest - u64::min(shortest, at) >= 64 {
                row::<SEAL, false>(&state, lanes, at, &mut poly);
            } else {
                row::<SEAL, true>(&state, lanes, at, &mut poly);
            }
        }
        at += 64;
    }

    let mut tags = [[0; TAG_LEN]; LANES];
    let len = len_halves(lanes);
    for (half, poly) in poly.into_iter().enumerate() {
        for (tag, value) in tags[half * 8..].iter_mut().zip(poly.finish(len[half])) {
            *tag = value.to_le_bytes();
        }
    }
    tags
}

/// One 64-byte row of all lanes: key stream, xor, and four authenticator blocks.
///
/// # Safety
/// As for [`crypt`]; without `MASKED` every lane must have 64 bytes left at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
unsafe fn row<const SEAL: bool, const MASKED: bool>(
    state: &State,
    lanes: &Lanes,
    at: u64,
    poly: &mut [Poly; 2],
) {
    let stream = transpose_words(block(state));
    let mut cipher = stream;
    for (lane, stream) in stream.into_iter().enumerate() {
        let left = lanes.len[lane] - u64::min(lanes.len[lane], at);
        let text = lanes.text[lane].wrapping_add(at as usize);
        // SAFETY: `left` bytes of this lane's slice start at `text`, and no more are touched.
        cipher[lane] = unsafe {
            if !MASKED || left >= 64 {
                let old = _mm512_loadu_si512(text.cast());
                let new = _mm512_xor_si512(old, stream);
                _mm512_storeu_si512(text.cast(), new);
                if SEAL { new } else { old }
            } else if left > 0 {
                let mask = (1u64 << left) - 1;
                let old = _mm512_maskz_loadu_epi8(mask, text.cast());
                let new = _mm512_maskz_mov_epi8(mask, _mm512_xor_si512(old, stream));
                // A masked store takes hundreds of cycles on Zen 4.
                let mut end = [0u8; 64];
                _mm512_storeu_si512(end.as_mut_ptr().cast(), new);
                std::ptr::copy_nonoverlapping(end.as_ptr(), text, left as usize);
                if SEAL { new } else { old }
            } else {
                _mm512_setzero_si512()
            }
        };
    }
    let len = len_halves(lanes);
    let halves = [
        transpose_quads([0, 1, 2, 3, 4, 5, 6, 7].map(|lane| cipher[lane])),
        transpose_quads([8, 9, 10, 11, 12, 13, 14, 15].map(|lane| cipher[lane])),
    ];
    for b in 0..4 {
        for (half, poly) in poly.iter_mut().enumerate() {
            let next = poly.absorb(halves[half][2 * b], halves[half][2 * b + 1]);
            if MASKED {
                let here = _mm512_set1_epi64((at + b as u64 * 16) as i64);
                let live = _mm512_cmpgt_epu64_mask(len[half], here);
                for (h, next) in poly.h.iter_mut().zip(next) {
                    *h = _mm512_mask_mov_epi64(*h, live, next);
                }
            } else {
                poly.h = next;
            }
        }
    }
}

/// One step of four quarter rounds side by side, which fills the pipeline: a += b; d = (d ^ a) <<< n.
macro_rules! step {
    ($n:literal: $(($a:ident, $b:ident, $d:ident))*) => {
        $($a = _mm512_add_epi32($a, $b);)*
        $($d = _mm512_xor_si512($d, $a);)*
        $($d = _mm512_rol_epi32::<$n>($d);)*
    };
}

/// The ChaCha20 block function: word w of sixteen blocks in register w.
///
/// Sixteen variables and not an array: only so does the compiler keep them all in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn block(state: &State) -> State {
    let [
        mut a0,
        mut a1,
        mut a2,
        mut a3,
        mut b0,
        mut b1,
        mut b2,
        mut b3,
        ..,
    ] = *state;
    let [
        ..,
        mut c0,
        mut c1,
        mut c2,
        mut c3,
        mut d0,
        mut d1,
        mut d2,
        mut d3,
    ] = *state;
    for _ in 0..10 {
        step!(16: (a0, b0, d0) (a1, b1, d1) (a2, b2, d2) (a3, b3, d3));
        step!(12: (c0, d0, b0) (c1, d1, b1) (c2, d2, b2) (c3, d3, b3));
        step!(8: (a0, b0, d0) (a1, b1, d1) (a2, b2, d2) (a3, b3, d3));
        step!(7: (c0, d0, b0) (c1, d1, b1) (c2, d2, b2) (c3, d3, b3));
        // The diagonals.
        step!(16: (a0, b1, d3) (a1, b2, d0) (a2, b3, d1) (a3, b0, d2));
        step!(12: (c2, d3, b1) (c3, d0, b2) (c0, d1, b3) (c1, d2, b0));
        step!(8: (a0, b1, d3) (a1, b2, d0) (a2, b3, d1) (a3, b0, d2));
        step!(7: (c2, d3, b1) (c3, d0, b2) (c0, d1, b3) (c1, d2, b0));
    }
    let mut x = [
        a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3,
    ];
    for (x, s) in x.iter_mut().zip(state) {
        *x = _mm512_add_epi32(*x, *s);
    }
    x
}

/// Turns «word w of 16 lanes» into «16 words of lane p».
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn transpose_words(x: State) -> State {
    let mut out = x;
    // quads[g][j]: words 4g..4g+4 of lanes j, j+4, j+8, j+12.
    let mut quads = [[x[0]; 4]; 4];
    for (g, quad) in quads.iter_mut().enumerate() {
        let (a, b, c, d) = (x[4 * g], x[4 * g + 1], x[4 * g + 2], x[4 * g + 3]);
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        *quad = [
            _mm512_unpacklo_epi64(ab_low, cd_low),
            _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ];
    }
    for j in 0..4 {
        let lanes = transpose_chunks([quads[0][j], quads[1][j], quads[2][j], quads[3][j]]);
        for (q, lane) in lanes.into_iter().enumerate() {
            out[4 * q + j] = lane;
        }
    }
    out
}

/// Turns «64 bytes of each of 8 packets» into «64-bit word k of 8 packets».
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn transpose_quads(c: [__m512i; 8]) -> [__m512i; 8] {
    let pair = |p: usize| (c[2 * p], c[2 * p + 1]);
    let even = [0, 1, 2, 3].map(|p| _mm512_unpacklo_epi64(pair(p).0, pair(p).1));
    let odd = [0, 1, 2, 3].map(|p| _mm512_unpackhi_epi64(pair(p).0, pair(p).1));
    let (even, odd) = (transpose_chunks(even), transpose_chunks(odd));
    [
        even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3],
    ]
}

/// 4×4 transpose of 128-bit chunks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn transpose_chunks(t: [__m512i; 4]) -> [__m512i; 4] {
    let u0 = _mm512_shuffle_i32x4::<0x88>(t[0], t[1]);
    let u1 = _mm512_shuffle_i32x4::<0xdd>(t[0], t[1]);
    let u2 = _mm512_shuffle_i32x4::<0x88>(t[2], t[3]);
    let u3 = _mm512_shuffle_i32x4::<0xdd>(t[2], t[3]);
    [
        _mm512_shuffle_i32x4::<0x88>(u0, u2),
        _mm512_shuffle_i32x4::<0x88>(u1, u3),
        _mm512_shuffle_i32x4::<0xdd>(u0, u2),
        _mm512_shuffle_i32x4::<0xdd>(u1, u3),
    ]
}

/// Lanes 0–7 of 32-bit words, widened to 64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn low_half(x: __m512i) -> __m512i {
    _mm512_cvtepu32_epi64(_mm512_castsi512_si256(x))
}

/// Lanes 8–15 of 32-bit words, widened to 64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn high_half(x: __m512i) -> __m512i {
    _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64::<1>(x))
}
