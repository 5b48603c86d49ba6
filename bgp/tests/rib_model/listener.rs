//! A neighbour that hears.

use super::*;

/// What a neighbour made of the messages it got.
#[derive(Default)]
pub(super) struct Listener {
    pub(super) routes: BTreeMap<(u8, u32), String>,
    /// Not heard again since the begin mark of a refresh.
    pub(super) stale: Option<BTreeSet<(u8, u32)>>,
    pub(super) ends: u32,
}

impl Listener {
    pub(super) fn hear(&mut self, message: &[u8], add_path: bool, ibgp: bool) {
        let frame = frame::next(message, 4096).unwrap().unwrap();
        assert_eq!(frame.len, message.len());
        if frame.kind == MessageType::RouteRefresh {
            match refresh::decode(frame.body, true).unwrap().unwrap().1 {
                Refresh::Begin => self.stale = Some(self.routes.keys().copied().collect()),
                Refresh::End => {
                    let stale = self.stale.take().unwrap();
                    assert!(
                        stale.is_empty(),
                        "an end mark although {stale:?} were not sent again"
                    );
                }
                Refresh::Request => panic!("a request"),
            }
            return;
        }
        let context = Context {
            ibgp,
            add_path_in: PerFamily {
                v4: add_path,
                v6: false,
            },
            ..Context::default()
        };
        let mut scratch = Vec::new();
        let update = update::split(frame.body, &context, &mut scratch).unwrap();
        assert_eq!(update.faults, []);
        self.ends += u32::from(update.end_of_rib.is_some());
        let at = |(id, key): (u32, V4)| (key.octets()[2], id);
        for item in update.withdrawn.iter().map(at) {
            self.routes.remove(&item);
            if let Some(stale) = &mut self.stale {
                stale.remove(&item);
            }
        }
        if update.announces() {
            let inspected = block::inspect(update.block, ibgp, true).unwrap();
            assert_eq!(inspected.canonical, None, "what we send needs no mending");
            let heard = Attributes::from(AttrView::new(update.block));
            let hop = NextHop::V4(update.next_hop.unwrap());
            for item in update.announced.iter().map(at) {
                self.routes.insert(item, format!("{:?}", (&heard, hop)));
                if let Some(stale) = &mut self.stale {
                    stale.remove(&item);
                }
            }
        }
    }

    pub(super) fn by_prefix(&self) -> BTreeMap<u8, Vec<String>> {
        let mut all: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for ((prefix, _), heard) in &self.routes {
            all.entry(*prefix).or_default().push(heard.clone());
        }
        all.values_mut().for_each(|list| list.sort());
        all
    }
}
