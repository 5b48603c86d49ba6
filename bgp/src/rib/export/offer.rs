//! Whether a group hears of a path, and what it hears of it.

use std::net::Ipv4Addr;

use model::Family;

use super::super::filter::{self, Verdict};
use super::super::hops::Reach;
use super::super::peer::{Export, LOCAL, NextHopMode, PeerId, PeerKind};
use super::super::plane::effective_pref;
use super::super::store::{AttrId, mark};
use super::super::table::Path;
use super::super::{OWN_HOP, Shared};
use crate::attributes::{Edit, Keep, NextHop};
use crate::prefix::PrefixKey;
use crate::wire::open::Role;

/// A path that a group hears of. Those with an equal `Offer` are announced together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offer {
    pub(super) attrs: AttrId,
    /// Its source, which does not hear of it.
    pub(super) from: PeerId,
    /// The export rule whose operations apply.
    pub(super) rule: Option<u16>,
}

/// What the source of a path is to us; `None` for ourselves.
fn kind_of(shared: &Shared, peer: PeerId) -> Option<PeerKind> {
    if peer == LOCAL {
        return None;
    }
    shared.peer(peer).map(|p| p.config.export.kind)
}

/// Whether `path` of `key` is announced.
pub(super) fn offer<K: PrefixKey>(
    shared: &Shared,
    export: &Export,
    key: K,
    path: &Path,
) -> Option<Offer> {
    let header = shared.store.header(path.attrs);
    if shared.store.hops.reach(header.hop) == Reach::Unreachable {
        return None;
    }
    let external = export.kind == PeerKind::External;
    if header.is(mark::NO_ADVERTISE) || external && header.is(mark::NO_EXPORT) {
        return None;
    }
    if export.kind == PeerKind::Internal && kind_of(shared, path.peer) == Some(PeerKind::Internal) {
        return None; // RFC 4456: only clients hear of non-clients' routes.
    }
    let upwards = matches!(
        export.role,
        Some(Role::Customer | Role::Peer | Role::RouteServerClient)
    );
    if upwards && header.is(mark::HAS_OTC) {
        return None; // RFC 9234 §5: a route leak of ours.
    }
    let remote = path.peer != LOCAL;
    let verdict = export.filter.as_ref().map_or(Verdict::Accept(None), |f| {
        filter::judge(f, key, shared.store.view(path.attrs), remote)
    });
    let Verdict::Accept(rule) = verdict else {
        return None;
    };
    Some(Offer {
        attrs: path.attrs,
        from: path.peer,
        rule,
    })
}

/// The next hop to announce; `None` when there is none that the neighbour could use.
pub(super) fn next_hop(
    shared: &Shared,
    export: &Export,
    family: Family,
    attrs: AttrId,
) -> Option<NextHop> {
    let own = || {
        let own_v4 = export
            .own_v4
            .map(NextHop::V4)
            .filter(|_| family == Family::V4);
        let v6_is_fine = family == Family::V6 || export.context.extended_next_hop;
        own_v4.or(export.own_v6.filter(|_| v6_is_fine))
    };
    let learnt = shared.store.next_hop(attrs);
    let keep = match export.next_hop {
        NextHopMode::Own => false,
        NextHopMode::Keep => true,
        NextHopMode::Auto => export.kind != PeerKind::External,
    };
    let fits = match learnt {
        _ if learnt == OWN_HOP => false,
        NextHop::V4(_) => family == Family::V4,
        NextHop::V6 { .. } => family == Family::V6 || export.context.extended_next_hop,
        // It means nothing on another link.
        NextHop::LinkLocal(_) => false,
    };
    if !(keep && fits) {
        return own();
    }
    Some(match learnt {
        NextHop::V6 { global, .. } => NextHop::V6 {
            global,
            link_local: None,
        },
        other => other,
    })
}

/// What export does to the attributes.
pub(super) fn edit(shared: &Shared, export: &Export, offer: &Offer) -> Edit {
    let mut edit = Edit {
        leaving: true,
        ..Edit::default()
    };
    let kind = kind_of(shared, offer.from);
    if export.kind == PeerKind::External {
        edit.local_pref = Keep::Drop;
        edit.originator = Keep::Drop;
        edit.cluster = Keep::Drop;
        if kind.is_some() {
            edit.med = Keep::Drop; // RFC 4271 §5.1.4: it was meant for us.
        }
        if matches!(
            export.role,
            Some(Role::Provider | Role::Peer | Role::RouteServer)
        ) {
            edit.otc = Keep::Default(export.local_as);
        }
    } else {
        let path = Path {
            next: 0,
            attrs: offer.attrs,
            raw: offer.attrs,
            path_id: 0,
            peer: offer.from,
            flags: 0,
        };
        edit.local_pref = Keep::Set(effective_pref(shared, &path));
        if matches!(kind, Some(PeerKind::Internal | PeerKind::Client)) {
            let source = shared.peer(offer.from).map(|p| p.config.router_id);
            edit.originator = Keep::Default(source.unwrap_or(Ipv4Addr::UNSPECIFIED));
            edit.cluster = Keep::Set(shared.config.cluster_id);
        }
    }
    let rule = export
        .filter
        .as_ref()
        .and_then(|f| filter::rule(f, offer.rule));
    if let Some(rule) = rule {
        let kept = edit.local_pref;
        filter::add_to(rule, &mut edit);
        if export.kind == PeerKind::External {
            edit.local_pref = kept;
        }
    }
    if export.kind == PeerKind::External {
        edit.prepend.insert(0, export.local_as);
    }
    edit
}
