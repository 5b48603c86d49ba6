//! Every pair of ends by protocol and port: the tables say what the documents say.

use std::collections::BTreeMap;

use model::object::{Object, ObjectId};
use model::resources::PolicyType;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use serde_json::Value;

use crate::cluster::{self, PROTOCOLS};
use crate::evaluator::{Attempt, Cluster};
use crate::generated;
use crate::node::{First, NODES, Node, node_of, objects, pod_id, read};
use crate::recipes::recipes;

/// Sets of policies that are made up, of one to three each.
const GENERATED: u32 = 200;

/// The cluster, and the nodes that know it.
struct Lab {
    cluster: Cluster,
    attempts: Vec<Attempt>,
    nodes: Vec<Node>,
    places: BTreeMap<ObjectId, usize>,
}

impl Lab {
    fn new() -> Lab {
        let cluster = cluster::cluster();
        let all = objects(&cluster);
        let nodes = NODES.map(|name| {
            let mut node = Node::new(name);
            node.put(&all);
            node
        });
        let place = |number| NODES.iter().position(|n| *n == node_of(number));
        let ids = cluster.pods.iter().map(|p| pod_id(p.namespace, p.name));
        let places = ids.zip((0..).map_while(place)).collect();
        Lab {
            attempts: cluster::attempts(&cluster),
            cluster,
            nodes: nodes.into(),
            places,
        }
    }

    fn put(&mut self, policies: &[Object]) {
        self.nodes
            .iter_mut()
            .for_each(|node| drop(node.put(policies)));
    }

    fn remove(&mut self, policies: &[Object]) {
        self.nodes
            .iter_mut()
            .for_each(|node| drop(node.remove(policies)));
    }

    /// What the node of a pod says; what is no pod has no say.
    fn says(&self, attempt: &Attempt, direction: PolicyType) -> bool {
        let address = match direction {
            PolicyType::Egress => attempt.source,
            PolicyType::Ingress => attempt.destination,
        };
        let protocol = PROTOCOLS.iter().find(|(name, _)| *name == attempt.protocol);
        let first = First {
            source: attempt.source,
            destination: attempt.destination,
            protocol: protocol.expect("a protocol").1,
            port: attempt.port,
        };
        self.cluster.pod_at(address).is_none_or(|pod| {
            let id = pod_id(pod.namespace, pod.name);
            self.nodes[self.places[&id]].lets(&id, direction, &first)
        })
    }

    /// Compares all of it; how many attempts the policies let through.
    fn compare(&self, policies: &[Value]) -> Result<usize, String> {
        let mut allowed = 0;
        for attempt in &self.attempts {
            let wanted = [
                self.cluster.lets_out(policies, attempt),
                self.cluster.lets_in(policies, attempt),
            ];
            let found = [PolicyType::Egress, PolicyType::Ingress].map(|d| self.says(attempt, d));
            if found != wanted {
                return Err(format!(
                    "out and in: {wanted:?} as documented, {found:?} as compiled: {attempt:?}"
                ));
            }
            allowed += usize::from(wanted == [true; 2]);
        }
        Ok(allowed)
    }
}

#[test]
fn without_policy_all_pass() {
    let lab = Lab::new();
    assert_eq!(lab.compare(&[]), Ok(lab.attempts.len()));
}

/// Those that are named for letting everything pass.
const CHANGES_NOTHING: [&str; 3] = [
    "a-contradiction-selects-nobody",
    "an-empty-value-is-not-the-same-as-none",
    "every-address",
];

#[test]
fn recipes_mean_what_the_api_says() {
    let mut lab = Lab::new();
    for recipe in recipes() {
        let name = &recipe.name;
        let policies = read(&recipe.text);
        assert_eq!(policies.len(), recipe.policies.len(), "{name}");
        lab.put(&policies);
        let allowed = lab
            .compare(&recipe.policies)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        // What changes nothing proves little.
        let all = allowed == lab.attempts.len();
        assert_eq!(all, CHANGES_NOTHING.contains(&name.as_str()), "{name}");
        lab.remove(&policies);
    }
    // None of them left anything behind.
    assert_eq!(lab.compare(&[]), Ok(lab.attempts.len()));
}

#[test]
fn made_up_policies_mean_what_the_api_says() {
    let mut lab = Lab::new();
    let config = Config {
        cases: GENERATED,
        failure_persistence: None,
        ..Config::default()
    };
    // The same in every run.
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let lab = std::cell::RefCell::new(&mut lab);
    let result = runner.run(&generated::policies(), |documents| {
        let mut lab = lab.borrow_mut();
        let policies: Vec<Object> = documents
            .iter()
            .flat_map(|d| read(&d.to_string()))
            .collect();
        lab.put(&policies);
        let compared = lab.compare(&documents);
        lab.remove(&policies);
        compared
            .map(drop)
            .map_err(proptest::test_runner::TestCaseError::fail)
    });
    if let Err(TestError::Fail(why, documents)) = result {
        panic!("{why}\n{documents:#?}");
    }
    result.expect("policies");
}
