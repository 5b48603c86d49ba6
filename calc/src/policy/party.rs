//! Who has an address, and the labels that selectors see of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use model::Cidr;
use model::resources::workload_endpoint::{
    self, EndpointPort, NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL,
};
use model::selector::{Expr, Selector};
use model::snapshot::Snapshot;

/// What the labels of a namespace begin with where a workload's selector names them.
const OF_NAMESPACE: &str = "pcns.";
/// Labels that every namespace has by itself: its name.
const NAMESPACE_NAMES: [&str; 2] = ["projectcalico.org/name", "kubernetes.io/metadata.name"];

type Labels = BTreeMap<String, String>;

/// Which party this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartyId<'a> {
    /// A workload, by namespace and name.
    Workload(&'a str, &'a str),
    /// A host endpoint.
    Host(&'a str),
    /// A network set, by namespace, if it has one, and name.
    Set(Option<&'a str>, &'a str),
}

/// Something that has addresses and labels.
#[derive(Clone, Debug)]
pub struct Party<'a> {
    /// Which one.
    pub id: PartyId<'a>,
    pub(super) default_allow: bool,
    labels: Cow<'a, Labels>,
    namespace: Option<&'a str>,
    /// Labels of its namespace; none where it has none.
    namespace_labels: Labels,
    nets: Vec<Cidr>,
    ports: &'a [EndpointPort],
}

/// Workloads by namespace and name, then hosts, then sets.
/// Of workloads and sets only those with a prefix that is wanted.
pub(super) fn all<'a>(snapshot: &'a Snapshot, wanted: impl Fn(Cidr) -> bool) -> Vec<Party<'a>> {
    let of = |namespace: Option<&str>| match namespace {
        Some(name) => namespace_labels(snapshot, name),
        None => Labels::new(),
    };
    let mut parties = Vec::new();
    for (key, r) in &snapshot.local_endpoints {
        if !is_wanted(r.spec.ip_networks.iter().copied(), &wanted) {
            continue;
        }
        parties.push(Party {
            id: PartyId::Workload(&key.namespace, &key.name),
            default_allow: true,
            labels: Cow::Owned(workload_endpoint::all_labels(&r.metadata, &r.spec)),
            namespace: Some(&key.namespace),
            namespace_labels: of(Some(&key.namespace)),
            nets: r.spec.ip_networks.clone(),
            ports: &r.spec.ports,
        });
    }
    for (key, remote) in &snapshot.remote_endpoints {
        let nets = || remote.ips.iter().copied().map(Cidr::host);
        if !is_wanted(nets(), &wanted) {
            continue;
        }
        parties.push(Party {
            id: PartyId::Workload(&key.namespace, &key.name),
            default_allow: true,
            labels: Cow::Borrowed(&remote.labels),
            namespace: Some(&key.namespace),
            namespace_labels: of(Some(&key.namespace)),
            nets: nets().collect(),
            ports: &remote.ports,
        });
    }
    for (name, r) in &snapshot.host_endpoints {
        parties.push(Party {
            id: PartyId::Host(name),
            default_allow: r.spec.default_allow(),
            labels: own_labels(&r.metadata.labels),
            namespace: None,
            namespace_labels: Labels::new(),
            nets: r
                .spec
                .expected_ips
                .iter()
                .copied()
                .map(Cidr::host)
                .collect(),
            ports: &r.spec.ports,
        });
    }
    for (id, r) in &snapshot.network_sets {
        if !is_wanted(r.spec.nets.iter().copied(), &wanted) {
            continue;
        }
        let namespace = id.namespace.as_deref();
        let mut labels = own_labels(&r.metadata.labels);
        if let Some(name) = namespace {
            let label = (NAMESPACE_LABEL.to_owned(), name.to_owned());
            labels.to_mut().extend([label]);
        }
        parties.push(Party {
            id: PartyId::Set(namespace, &id.name),
            default_allow: false,
            labels,
            namespace,
            namespace_labels: of(namespace),
            nets: r.spec.nets.clone(),
            ports: &[],
        });
    }
    parties.sort_by_key(|p| match p.id {
        PartyId::Workload(namespace, name) => (0, Some(namespace), name),
        PartyId::Host(name) => (1, None, name),
        PartyId::Set(namespace, name) => (2, namespace, name),
    });
    parties
}

/// Who has no address at all counts: policies apply to it all the same.
fn is_wanted(nets: impl Iterator<Item = Cidr>, wanted: &impl Fn(Cidr) -> bool) -> bool {
    let mut nets = nets.peekable();
    nets.peek().is_none() || nets.any(wanted)
}

/// The labels of what is no workload, without those that say that something is one.
fn own_labels(labels: &Labels) -> Cow<'_, Labels> {
    let mut labels = Cow::Borrowed(labels);
    for of_workloads in [NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL] {
        if labels.contains_key(of_workloads) {
            labels.to_mut().remove(of_workloads);
        }
    }
    labels
}

fn namespace_labels(snapshot: &Snapshot, name: &str) -> Labels {
    let mut labels = snapshot.namespace_labels(name);
    let own = NAMESPACE_NAMES.map(|label| (label.to_owned(), name.to_owned()));
    labels.extend(own);
    labels
}

impl Party<'_> {
    /// Whether it has an address.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(ip))
    }

    /// Whether policies can apply to it.
    pub(super) fn is_endpoint(&self) -> bool {
        !matches!(self.id, PartyId::Set(..))
    }

    pub(super) fn is_host(&self) -> bool {
        matches!(self.id, PartyId::Host(_))
    }

    pub(super) fn is_workload_of(&self, namespace: &str) -> bool {
        matches!(self.id, PartyId::Workload(own, _) if own == namespace)
    }

    pub(super) fn lives_in(&self, namespace: &str) -> bool {
        self.namespace == Some(namespace)
    }

    /// Whether it has a port by this name and number.
    pub(super) fn has_port(&self, name: &str, protocol: u8, port: u16) -> bool {
        let is = |p: &EndpointPort| {
            p.name == name && p.port == port && p.protocol.number() == Some(protocol)
        };
        self.ports.iter().any(is)
    }

    /// The numbers that a port's name stands for.
    pub(super) fn ports_named(&self, name: &str, protocol: u8) -> impl Iterator<Item = u16> {
        let named = self.ports.iter().filter(move |p| p.name == name);
        let of_protocol = named.filter(move |p| p.protocol.number() == Some(protocol));
        of_protocol.map(|p| p.port)
    }

    /// The labels that selectors see, without those of its namespace.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Whether a selector selects it. Besides its own labels it has those of its namespace, behind `pcns.`.
    pub(super) fn selected(&self, selector: &Selector) -> bool {
        let label = |key: &str| {
            let inherited = || self.namespace_labels.get(key.strip_prefix(OF_NAMESPACE)?);
            let value = self.labels.get(key).or_else(inherited);
            value.map(String::as_str)
        };
        selector.matches_with(&label)
    }

    /// Whether a selector of namespaces selects its own. What has none has no labels there, and is what
    /// `global()` stands for; `all()` stands for what has one.
    pub(super) fn namespace_selected(&self, selector: &Selector) -> bool {
        self.namespace_holds(selector.expr())
    }

    fn namespace_holds(&self, expr: &Expr) -> bool {
        let label = |key: &str| self.namespace_labels.get(key).map(String::as_str);
        match expr {
            Expr::All => self.namespace.is_some(),
            Expr::Global => self.namespace.is_none(),
            Expr::Has(key) => label(key).is_some(),
            Expr::Test(key, test) => test.holds(label(key)),
            Expr::Not(part) => !self.namespace_holds(part),
            Expr::And(parts) => parts.iter().all(|p| self.namespace_holds(p)),
            Expr::Or(parts) => parts.iter().any(|p| self.namespace_holds(p)),
            _ => false,
        }
    }
}
