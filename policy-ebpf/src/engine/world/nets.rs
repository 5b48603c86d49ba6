//! Prefixes that rules begin and cease to name.
//!
//! One may hold the addresses of everybody. Where it holds all prefixes of an origin, the origin stays what it is
//! under another net; only those that lie on both sides of its border have to be placed anew.

use model::Cidr;

use super::{Origin, World, prefixes};

/// With so many prefixes in a net or fewer, placing them is less work than looking at the origins.
const FEW: usize = 8;

impl World {
    /// A rule names a prefix, which none may have named before.
    pub(super) fn add_net(&mut self, net: Cidr) {
        let node = self.prefixes.node(net);
        if node.is_net {
            return;
        }
        node.is_net = true;
        self.stale_prefixes.insert(net);
        self.doubt_origins(net);
        if self.has_few(net) {
            return self.doubt(net);
        }
        let from = self.net_around(net);
        let origins = self.by_net.get(&from).cloned().unwrap_or_default();
        for number in origins {
            let prefixes = &self.origins[number].prefixes;
            let is_in = |prefix: Option<&Cidr>| prefix.is_some_and(|p| net.covers(p));
            // In order, what lies in a prefix is together.
            if is_in(prefixes.first()) && is_in(prefixes.last()) {
                self.move_origin(number, from, net);
            } else {
                let inside = prefixes.range(net..).take_while(|p| net.covers(p));
                self.stale_prefixes.extend(inside);
            }
        }
    }

    /// No rule names a prefix any more.
    pub(super) fn remove_net(&mut self, net: Cidr) {
        if net == prefixes::root(net.family()) {
            return;
        }
        self.prefixes.node(net).is_net = false;
        self.stale_prefixes.insert(net);
        if self.has_few(net) {
            return self.doubt(net);
        }
        let to = self.net_around(net);
        for number in self.by_net.get(&net).cloned().unwrap_or_default() {
            self.move_origin(number, net, to);
        }
    }

    fn has_few(&self, net: Cidr) -> bool {
        self.prefixes.inside(net).nth(FEW).is_none()
    }

    /// The longest net that holds this one.
    fn net_around(&self, net: Cidr) -> Cidr {
        let covering = self.prefixes.covering(net);
        let around = covering.filter(|(prefix, node)| node.is_net && *prefix != net);
        let longest = around.map(|(prefix, _)| prefix).last();
        longest.unwrap_or_else(|| prefixes::root(net.family()))
    }

    /// All of an origin is in another net from here on; where there is one like it, the two become one.
    fn move_origin(&mut self, number: u32, from: Cidr, to: Cidr) {
        let Some(old) = self.origins.get(number) else {
            return;
        };
        let origin = Origin {
            net: to,
            ..old.clone()
        };
        if self.origins.find(&origin).is_some() {
            let prefixes = &self.origins[number].prefixes;
            self.stale_prefixes.extend(prefixes);
            return;
        }
        self.origins.rename(number, origin);
        self.forget_net(from, number);
        self.by_net.entry(to).or_default().insert(number);
        self.stale_origins.insert(number);
    }

    /// An origin has this net no more.
    pub(super) fn forget_net(&mut self, net: Cidr, origin: u32) {
        if let Some(origins) = self.by_net.get_mut(&net) {
            origins.remove(&origin);
            if origins.is_empty() {
                self.by_net.remove(&net);
            }
        }
    }
}
