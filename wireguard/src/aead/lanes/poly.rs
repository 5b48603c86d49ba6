//! Poly1305 of eight packets at once: each 64-bit lane has its own key and accumulator.
//!
//! Numbers are in limbs of 44, 44 and 42 bits. `VPMADD52` multiplies 52-bit operands into a low and a
//! high sum; a high half weighs 2^52 = 2^8 · 2^44, so it joins the next limb shifted by 8. What passes
//! 2^132 returns times 20 and what passes 2^130 times 5 (2^130 ≡ 5).
//!
//! Bounds that let `absorb` skip its last carry: with r clamped (its top limb below 2^36) and limbs
//! below 2^50, 2^45, 2^43 on entry, every operand stays below 2^52 and every sum below 2^64, and the
//! limbs on leaving are below 2^44 + 5·2^48, 2^44 and 2^42.

use std::arch::x86_64::*;

pub(super) struct Poly {
    r: [__m512i; 3],
    /// 20·r1 and 20·r2.
    r20: [__m512i; 2],
    s: [__m512i; 2],
    /// The accumulator; written by the caller because ended lanes must keep theirs.
    pub(super) h: [__m512i; 3],
}

const MASK_44: i64 = (1 << 44) - 1;
const MASK_42: i64 = (1 << 42) - 1;

impl Poly {
    /// Keys from the eight 32-bit words r0..r3, s0..s3 of each packet, widened to 64 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    pub(super) fn new(w: [__m512i; 8]) -> Poly {
        let join = |low, high| _mm512_or_si512(low, _mm512_slli_epi64::<32>(high));
        let low = _mm512_and_si512(join(w[0], w[1]), _mm512_set1_epi64(0x0fff_fffc_0fff_ffff));
        let high = _mm512_and_si512(join(w[2], w[3]), _mm512_set1_epi64(0x0fff_fffc_0fff_fffc));
        let r = limbs(low, high);
        let by_20 = |x| _mm512_add_epi64(_mm512_slli_epi64::<4>(x), _mm512_slli_epi64::<2>(x));
        Poly {
            r,
            r20: [by_20(r[1]), by_20(r[2])],
            s: [join(w[4], w[5]), join(w[6], w[7])],
            h: [_mm512_setzero_si512(); 3],
        }
    }

    /// The accumulator after one more full block, given as its low and high 64 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    pub(super) fn absorb(&self, low: __m512i, high: __m512i) -> [__m512i; 3] {
        let m = limbs(low, high);
        let h0 = _mm512_add_epi64(self.h[0], m[0]);
        let h1 = _mm512_add_epi64(self.h[1], m[1]);
        // The 2^128 bit that RFC 8439 appends to every block.
        let top = _mm512_or_si512(m[2], _mm512_set1_epi64(1 << 40));
        let h2 = _mm512_add_epi64(self.h[2], top);
        let [r0, r1, r2] = self.r;
        let [t1, t2] = self.r20;

        let p0 = [(h0, r0), (h1, t2), (h2, t1)];
        let p1 = [(h0, r1), (h1, r0), (h2, t2)];
        let p2 = [(h0, r2), (h1, r1), (h2, r0)];

        let mask = _mm512_set1_epi64(MASK_44);
        let d0 = low3(p0);
        let carry = _mm512_add_epi64(
            _mm512_srli_epi64::<44>(d0),
            _mm512_slli_epi64::<8>(high3(p0)),
        );
        let d1 = _mm512_add_epi64(low3(p1), carry);
        let carry = _mm512_add_epi64(
            _mm512_srli_epi64::<44>(d1),
            _mm512_slli_epi64::<8>(high3(p1)),
        );
        let d2 = _mm512_add_epi64(low3(p2), carry);
        // Bit 42 of limb 2 is 2^130; its high half weighs 2^140 = 2^10 · 2^130.
        let carry = _mm512_add_epi64(
            _mm512_srli_epi64::<42>(d2),
            _mm512_slli_epi64::<10>(high3(p2)),
        );
        let by_5 = _mm512_add_epi64(carry, _mm512_slli_epi64::<2>(carry));
        [
            _mm512_add_epi64(_mm512_and_si512(d0, mask), by_5),
            _mm512_and_si512(d1, mask),
            _mm512_and_si512(d2, _mm512_set1_epi64(MASK_42)),
        ]
    }

    /// Absorbs the length block (no associated data, `len` bytes of text) and returns the eight tags.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    pub(super) fn finish(mut self, len: __m512i) -> [u128; 8] {
        self.h = self.absorb(_mm512_setzero_si512(), len);
        self.tags()
    }

    /// h mod 2^130-5, plus s, mod 2^128.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    pub(super) fn tags(&self) -> [u128; 8] {
        let h = [unpack(self.h[0]), unpack(self.h[1]), unpack(self.h[2])];
        let s = [unpack(self.s[0]), unpack(self.s[1])];
        std::array::from_fn(|i| {
            // Plain 128-bit sums: constant time, and once a packet.
            let mut limb = [h[0][i], h[1][i], h[2][i]];
            for _ in 0..2 {
                limb[1] += limb[0] >> 44;
                limb[0] &= MASK_44 as u64;
                limb[2] += limb[1] >> 44;
                limb[1] &= MASK_44 as u64;
                limb[0] += (limb[2] >> 42) * 5;
                limb[2] &= MASK_42 as u64;
            }
            limb[1] += limb[0] >> 44;
            limb[0] &= MASK_44 as u64;
            // h + 5 reaches 2^130 exactly when h is not reduced yet.
            let g0 = limb[0] + 5;
            let g1 = limb[1] + (g0 >> 44);
            let g2 = limb[2] + (g1 >> 44);
            let reduced = 0u64.wrapping_sub(g2 >> 42);
            let pick = |h: u64, g: u64| u128::from((h & !reduced) | (g & reduced));
            let value = pick(limb[0], g0 & MASK_44 as u64)
                + (pick(limb[1], g1 & MASK_44 as u64) << 44)
                + (pick(limb[2], g2 & MASK_42 as u64) << 88);
            value.wrapping_add(u128::from(s[0][i]) | u128::from(s[1][i]) << 64)
        })
    }
}

type Products = [(__m512i, __m512i); 3];

/// Sum of the low 52 bits of three products. Independent of the other limbs until the carries.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn low3([a, b, c]: Products) -> __m512i {
    let sum = _mm512_madd52lo_epu64(_mm512_setzero_si512(), a.0, a.1);
    _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(sum, b.0, b.1), c.0, c.1)
}

/// Sum of the bits from 52 on of three products.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn high3([a, b, c]: Products) -> __m512i {
    let sum = _mm512_madd52hi_epu64(_mm512_setzero_si512(), a.0, a.1);
    _mm512_madd52hi_epu64(_mm512_madd52hi_epu64(sum, b.0, b.1), c.0, c.1)
}

/// 128 bits as limbs of 44, 44 and 40.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn limbs(low: __m512i, high: __m512i) -> [__m512i; 3] {
    let mask = _mm512_set1_epi64(MASK_44);
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    [
        _mm512_and_si512(low, mask),
        _mm512_and_si512(middle, mask),
        _mm512_srli_epi64::<24>(high),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn unpack(x: __m512i) -> [u64; 8] {
    let mut out = [0; 8];
    // SAFETY: the array is exactly one register wide and unaligned stores are asked for.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) };
    out
}
