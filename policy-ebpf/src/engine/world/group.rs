//! Groups: parties that no rule can tell apart, and what selectors say of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use model::selector::{Expr, Selector};

use crate::party::{Labels, NamedPort, Party};

/// What the labels of a namespace begin with where a workload's selector names them.
const OF_NAMESPACE: &str = "pcns.";
/// Labels that every namespace has by itself: its name.
const NAMESPACE_NAMES: [&str; 2] = ["projectcalico.org/name", "kubernetes.io/metadata.name"];

/// All that rules can know of a party.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Group {
    pub(in crate::engine) namespace: Option<Arc<str>>,
    pub(in crate::engine) labels: Arc<Labels>,
    pub(in crate::engine) ports: Box<[NamedPort]>,
}

/// What follows for a group.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The terms that hold, sorted.
    pub(super) terms: Vec<u32>,
    /// The origins that it is part of.
    pub(super) origins: BTreeSet<u32>,
}

/// A question about a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Term {
    pub(in crate::engine) scope: Scope,
    pub(in crate::engine) selector: Option<Selector>,
    pub(in crate::engine) port: Option<NamedPort>,
}

/// Where a term looks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Scope {
    Anywhere,
    /// In this namespace.
    In(Arc<str>),
    /// In namespaces that are selected.
    Selected(Selector),
}

/// The labels of namespaces, those of their objects and those that they have without.
#[derive(Debug, Default)]
pub(in crate::engine) struct Namespaces(HashMap<Arc<str>, Labels>);

impl Group {
    pub(in crate::engine) fn of(party: &Party) -> Group {
        Group {
            namespace: party.namespace.clone(),
            labels: party.labels.clone(),
            ports: party.ports.clone(),
        }
    }

    /// Whether a term holds.
    pub(super) fn satisfies(&self, term: &Term, namespaces: &Namespaces) -> bool {
        let in_scope = match &term.scope {
            Scope::Anywhere => true,
            Scope::In(own) => self.namespace.as_ref() == Some(own),
            Scope::Selected(selector) => self.is_in(selector, namespaces),
        };
        in_scope
            && (term.port.as_ref()).is_none_or(|p| self.ports.binary_search(p).is_ok())
            && (term.selector.as_ref()).is_none_or(|s| self.is_selected(s, namespaces))
    }

    /// Whether a selector selects it, by its own labels and by those of its namespace behind `pcns.`.
    pub(in crate::engine) fn is_selected(
        &self,
        selector: &Selector,
        namespaces: &Namespaces,
    ) -> bool {
        let own = self.namespace.as_deref();
        selector.matches_with(&|key| {
            let inherited = || namespaces.label(own?, key.strip_prefix(OF_NAMESPACE)?);
            let label = self.labels.get(key).map(String::as_str);
            label.or_else(inherited)
        })
    }

    /// Whether a selector of namespaces selects its own. What has none is `global()` and has no labels there.
    pub(in crate::engine) fn is_in(&self, selector: &Selector, namespaces: &Namespaces) -> bool {
        namespace_holds(selector.expr(), self.namespace.as_deref(), namespaces)
    }
}

fn namespace_holds(expr: &Expr, own: Option<&str>, namespaces: &Namespaces) -> bool {
    let label = |key: &str| namespaces.label(own?, key);
    let holds = |part: &Expr| namespace_holds(part, own, namespaces);
    match expr {
        Expr::All => own.is_some(),
        Expr::Global => own.is_none(),
        Expr::Has(key) => label(key).is_some(),
        Expr::Test(key, test) => test.holds(label(key)),
        Expr::Not(part) => !holds(part),
        Expr::And(parts) => parts.iter().all(holds),
        Expr::Or(parts) => parts.iter().any(holds),
        _ => false,
    }
}

impl Namespaces {
    /// Sets the labels of a namespace's object; whether that changed anything.
    pub(in crate::engine) fn put(&mut self, name: &str, labels: Option<&Labels>) -> bool {
        let old = match labels {
            Some(labels) => self.0.insert(name.into(), labels.clone()),
            None => self.0.remove(name),
        };
        old.as_ref() != labels
    }

    /// The namespaces whose objects are known.
    pub(in crate::engine) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    fn label<'a>(&'a self, namespace: &'a str, key: &str) -> Option<&'a str> {
        if NAMESPACE_NAMES.contains(&key) {
            return Some(namespace);
        }
        self.0.get(namespace)?.get(key).map(String::as_str)
    }
}
