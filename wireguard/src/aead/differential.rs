//! Our engine beside ring: equal bytes, equal verdicts.

use proptest::prelude::*;

use super::*;

/// SplitMix64: enough disorder for test data, and reproducible.
struct Mix(u64);

impl Mix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    fn key(&mut self) -> Key {
        Key::new(std::array::from_fn(|_| self.next().to_le_bytes()[0]))
    }
}

/// Packets as (key, counter, text with room for a tag).
type Packets = Vec<(Key, u64, Vec<u8>)>;

fn packets(mix: &mut Mix, lens: &[usize]) -> Packets {
    lens.iter()
        .map(|len| {
            let mut text = mix.bytes(*len);
            text.resize(len + TAG_LEN, 0xaa);
            (mix.key(), mix.next(), text)
        })
        .collect()
}

fn each<'a>(keys: &'a Packets, data: &'a mut [Vec<u8>]) -> Vec<Job<'a>> {
    keys.iter()
        .zip(data)
        .map(|((key, counter, _), data)| Job::new(key, *counter, data))
        .collect()
}

fn texts(packets: &Packets) -> Vec<Vec<u8>> {
    packets.iter().map(|p| p.2.clone()).collect()
}

/// Seals and opens with `seal`/`open` and compares everything with ring.
fn check(packets: &Packets, seal: impl Fn(&mut [Job<'_>]), open: impl Fn(&mut [Job<'_>])) {
    let (mut ours, mut rings) = (texts(packets), texts(packets));
    let mut jobs = each(packets, &mut ours);
    seal(&mut jobs);
    assert!(jobs.iter().all(Job::is_done));
    seal_batch(Engine::ring(), &mut each(packets, &mut rings));
    assert_eq!(ours, rings);

    let mut jobs = each(packets, &mut ours);
    open(&mut jobs);
    for (job, (_, _, clear)) in jobs.iter().zip(packets) {
        assert!(job.is_done());
        assert_eq!(job.text(), &clear[..clear.len() - TAG_LEN]);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_length_in_every_number_of_lanes_equals_ring() {
    let Some(cpu) = lanes::Supported::detect() else {
        println!("no AVX-512 IFMA on this CPU: only ring can be tested here");
        return;
    };
    let all: Vec<u8> = (0..16).collect();
    let mut mix = Mix(1);
    for len in 0..=1500 {
        for count in 1..=16 {
            // One lane has exactly `len`; the others any length, so that ends fall everywhere.
            let exact = (len + count) % count;
            let lens: Vec<usize> = (0..count)
                .map(|lane| {
                    if lane == exact {
                        len
                    } else {
                        (mix.next() % 1501) as usize
                    }
                })
                .collect();
            check(
                &packets(&mut mix, &lens),
                |jobs| lanes::run::<true>(cpu, jobs, &all[..count]),
                |jobs| lanes::run::<false>(cpu, jobs, &all[..count]),
            );
        }
        let equal = packets(&mut mix, &[len; 16]);
        check(
            &equal,
            |jobs| lanes::run::<true>(cpu, jobs, &all),
            |jobs| lanes::run::<false>(cpu, jobs, &all),
        );
    }
}

/// Sixteen equal packets go through the lanes where there are any, one through ring.
#[test]
fn every_flipped_bit_of_a_tag_is_refused_and_wiped() {
    let mut mix = Mix(2);
    for engine in [Engine::ring(), Engine::select(EngineChoice::Auto)] {
        for bit in 0..TAG_LEN * 8 {
            let packets = packets(&mut mix, &[200; 16]);
            let mut data = texts(&packets);
            seal_batch(engine, &mut each(&packets, &mut data));
            let bad = bit % 16;
            data[bad][200 + bit / 8] ^= 1 << (bit % 8);
            let mut jobs = each(&packets, &mut data);
            open_batch(engine, &mut jobs);
            for (lane, job) in jobs.iter().enumerate() {
                assert_eq!(job.is_done(), lane != bad);
                assert_eq!(job.text().is_empty(), lane == bad);
            }
            assert!(
                data[bad].iter().all(|b| *b == 0),
                "plaintext of a forgery is left"
            );
            assert_eq!(
                data[(bad + 1) % 16][..200],
                packets[(bad + 1) % 16].2[..200]
            );
        }
    }
}

#[test]
fn slices_without_room_for_a_tag_are_left_alone() {
    let key = Key::new([1; 32]);
    for engine in [Engine::ring(), Engine::select(EngineChoice::Auto)] {
        let mut data: Vec<Vec<u8>> = (0..32).map(|len| vec![9; len]).collect();
        let mut jobs: Vec<_> = data.iter_mut().map(|d| Job::new(&key, 1, d)).collect();
        seal_batch(engine, &mut jobs);
        for (len, job) in jobs.iter().enumerate() {
            assert_eq!(job.is_done(), len >= TAG_LEN);
        }
        assert_eq!(data[15], [9; 15]);
        let mut jobs: Vec<_> = data.iter_mut().map(|d| Job::new(&key, 1, d)).collect();
        open_batch(engine, &mut jobs);
        assert!(
            jobs.iter()
                .enumerate()
                .all(|(len, job)| job.is_done() == (len >= TAG_LEN))
        );
    }
}

proptest! {
    /// Whatever the plan decides, in whatever order the lengths come.
    #[test]
    fn any_batch_equals_ring(seed: u64, lens in prop::collection::vec(0usize..4000, 0..150)) {
        let auto = Engine::select(EngineChoice::Auto);
        check(
            &packets(&mut Mix(seed), &lens),
            |jobs| seal_batch(auto, jobs),
            |jobs| open_batch(auto, jobs),
        );
    }

    #[test]
    fn any_flipped_bit_is_refused(
        seed: u64,
        lens in prop::collection::vec(0usize..300, 1..40),
        bits in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let auto = Engine::select(EngineChoice::Auto);
        let packets = packets(&mut Mix(seed), &lens);
        let mut data = texts(&packets);
        seal_batch(auto, &mut each(&packets, &mut data));
        // Every other packet is forged.
        for (data, bit) in data.iter_mut().zip(&bits).step_by(2) {
            let bit = bit.index(data.len() * 8);
            data[bit / 8] ^= 1 << (bit % 8);
        }
        let forged = |i: usize| i.is_multiple_of(2) && i < bits.len();
        let mut jobs = each(&packets, &mut data);
        open_batch(auto, &mut jobs);
        for (i, job) in jobs.iter().enumerate() {
            prop_assert_eq!(job.is_done(), !forged(i));
        }
        for (i, (data, (_, _, clear))) in data.iter().zip(&packets).enumerate() {
            let text = clear.len() - TAG_LEN;
            if forged(i) {
                prop_assert!(data.iter().all(|b| *b == 0));
            } else {
                prop_assert_eq!(&data[..text], &clear[..text]);
            }
        }
    }
}

/// RFC 8439, appendix A.5 and section 2.8.2 are vectors of a construction with associated data, which
/// WireGuard does not use: they hold ring to the standard, and the tests above hold us to ring.
#[test]
fn ring_is_the_cipher_of_rfc_8439() {
    let key = ring_key(&std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap()));
    let nonce =
        Nonce::assume_unique_for_key([7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47]);
    let aad = [
        0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
    ];
    let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you \
                     only one tip for the future, sunscreen would be it."
        .to_vec();
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut text)
        .unwrap();
    assert_eq!(text[..4], [0xd3, 0x1a, 0x8d, 0x34]);
    assert_eq!(
        tag.as_ref(),
        [
            0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a, 0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60,
            0x06, 0x91
        ]
    );
}

#[test]
fn keys_do_not_print() {
    assert_eq!(format!("{:?}", Key::new([0x41; 32])), "Key(..)");
}
