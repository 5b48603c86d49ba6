//! Which prefixes an UPDATE is about, before it is looked at in earnest.

use model::Family;

use super::mp;
use crate::attributes::{Tlvs, code};
use crate::prefix::{V4, V6};
use crate::wire::nlri::Nlri;
use crate::wire::{Context, Reader};

/// Calls for each prefix that an UPDATE's body withdraws or announces, as far as they can be read. Nothing is judged: that is for
/// [`super::split`].
pub fn preview(body: &[u8], context: &Context, mut v4: impl FnMut(V4), mut v6: impl FnMut(V6)) {
    let mut reader = Reader(body);
    let mut field = || {
        let len = reader.u16()?;
        reader.take(usize::from(len))
    };
    let (Some(withdrawn), Some(attributes)) = (field(), field()) else {
        return;
    };
    let mut each4 = |bytes| {
        let nlri = Nlri::unchecked(bytes, context.add_path_in.v4);
        nlri.iter().for_each(|(_, key)| v4(key));
    };
    each4(withdrawn);
    each4(reader.0);
    for tlv in Tlvs(attributes) {
        let nlri = match tlv.code {
            code::MP_REACH => mp::prefixes_of_reach(tlv.value),
            code::MP_UNREACH => mp::prefixes_of_unreach(tlv.value),
            _ => continue,
        };
        match nlri {
            Some((Family::V4, bytes)) => each4(bytes),
            Some((Family::V6, bytes)) => {
                let nlri = Nlri::unchecked(bytes, context.add_path_in.v6);
                nlri.iter().for_each(|(_, key)| v6(key));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use model::Cidr;
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::{Attributes, NextHop};
    use crate::family::PerFamily;
    use crate::prefix::PrefixKey;
    use crate::wire::HEADER_LEN;
    use crate::wire::render;
    use crate::wire::update::{MpNlri, split};

    fn context(add_path: bool) -> Context {
        let both = |is| PerFamily { v4: is, v6: is };
        Context {
            families: both(true),
            add_path_in: both(add_path),
            add_path_out: both(add_path),
            ..Context::default()
        }
    }

    fn previewed(body: &[u8], context: &Context) -> Vec<Cidr> {
        let found = std::cell::RefCell::new(Vec::new());
        let add = |cidr| found.borrow_mut().push(cidr);
        preview(body, context, |key| add(key.cidr()), |key| add(key.cidr()));
        found.into_inner()
    }

    /// What [`split`] finds, where it finds no fault.
    fn found(body: &[u8], context: &Context) -> Option<Vec<Cidr>> {
        let mut scratch = Vec::new();
        let update = split(body, context, &mut scratch).ok()?;
        let mut all: Vec<Cidr> = update.withdrawn.iter().map(|(_, k)| k.cidr()).collect();
        all.extend(update.announced.iter().map(|(_, k)| k.cidr()));
        let announced = update.mp_announced.map(|(nlri, _)| nlri);
        for nlri in [announced, update.mp_withdrawn].into_iter().flatten() {
            match nlri {
                MpNlri::V4(nlri) => all.extend(nlri.iter().map(|(_, k)| k.cidr())),
                MpNlri::V6(nlri) => all.extend(nlri.iter().map(|(_, k)| k.cidr())),
            }
        }
        update.faults.is_empty().then_some(all)
    }

    fn keys<K: PrefixKey>(prefixes: &[(u8, [u8; 16])]) -> Vec<(u32, K)> {
        let keys = prefixes.iter();
        keys.filter_map(|(len, bits)| Some((7, K::from_bits(*len, bits)?)))
            .collect()
    }

    fn check<K: PrefixKey>(prefixes: &[(u8, [u8; 16])], hop: &NextHop, context: &Context) {
        let keys = keys::<K>(prefixes);
        let mut messages: Vec<Bytes> = Vec::new();
        let block = Attributes::default().block().unwrap();
        let send = |m| messages.push(m);
        render::announce(context, &block, hop, keys.iter().copied(), send).unwrap();
        render::withdraw(context, keys.iter().copied(), |m| messages.push(m));
        let mut all = BTreeSet::new();
        for message in &messages {
            let body = &message[HEADER_LEN..];
            let previewed = previewed(body, context);
            assert_eq!(Some(&previewed), found(body, context).as_ref());
            all.extend(previewed);
        }
        let wanted: BTreeSet<Cidr> = keys.iter().map(|(_, key)| key.cidr()).collect();
        assert_eq!(all, wanted);
    }

    proptest! {
        #[test]
        fn it_finds_what_split_finds(
            prefixes in prop::collection::vec((0u8..=128, any::<[u8; 16]>()), 0..40),
            add_path: bool,
        ) {
            let context = context(add_path);
            let hop = NextHop::V4([192, 0, 2, 1].into());
            check::<V4>(&prefixes, &hop, &context);
            let hop = NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: None };
            check::<V6>(&prefixes, &hop, &context);
        }

        #[test]
        fn nothing_makes_it_panic(body: Vec<u8>, add_path: bool) {
            let context = context(add_path);
            prop_assert!(previewed(&body, &context).len() <= body.len());
        }
    }
}
