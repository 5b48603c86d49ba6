//! Reads a JSON value into a type, strictly, and finds every fault on the way.
//!
//! serde stops at the first fault. Here unknown fields are set aside while reading, and a value
//! that does not fit is taken out and the rest read again, so an operator sees all faults at once.
//! As in Go's JSON, `null` and `""` leave a field of a struct at its default.

mod error;
mod reader;

use std::cell::RefCell;

use serde::de::DeserializeOwned;
use serde_json::Value;

use reader::{Place, Reader};

/// Most faults reported of one object: enough to mend, bounded for hostile input.
pub(super) const MOST_FAULTS: usize = 20;

/// A field that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Such as `spec.ports[2].port`.
    pub(super) field: String,
    /// What stands there, as JSON.
    pub(super) value: String,
    /// What is wrong.
    pub(super) problem: String,
    /// What to write instead.
    pub(super) mend: String,
}

/// Reads `value`, which stands at the field `root`; an unknown field is a fault.
pub(super) fn read<T: DeserializeOwned>(value: Value, root: &str) -> Result<T, Vec<Fault>> {
    read_with(value, root, true)
}

/// Reads `value` and drops what the type does not know.
pub(super) fn read_known<T: DeserializeOwned>(value: Value, root: &str) -> Result<T, Vec<Fault>> {
    read_with(value, root, false)
}

fn read_with<T: DeserializeOwned>(
    mut value: Value,
    root: &str,
    refuse_unknown: bool,
) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut removed: Vec<Vec<Step>> = Vec::new();
    loop {
        let unknown = RefCell::new(Vec::new());
        let reader = Reader {
            value: &value,
            at: &Place::Root(root),
            unknown: &unknown,
        };
        let outcome = T::deserialize(reader);
        let mut unknown = unknown.into_inner();
        unknown.retain(|_| refuse_unknown);
        let e = match outcome {
            Ok(read) if faults.is_empty() && unknown.is_empty() => return Ok(read),
            Ok(_) => {
                faults.append(&mut unknown);
                return Err(faults);
            }
            Err(e) => e,
        };
        // A required field that was taken out above is no news.
        let known = e.missing && removed.contains(&e.steps);
        if !known {
            let shown = lookup(&value, &e.steps)
                .filter(|_| !e.missing)
                .map(Value::to_string);
            faults.push(Fault {
                field: render(root, &e.steps),
                value: shown.unwrap_or_default(),
                problem: e.problem,
                mend: e.mend,
            });
        }
        if e.missing || faults.len() >= MOST_FAULTS || !remove(&mut value, &e.steps) {
            faults.append(&mut unknown);
            return Err(faults);
        }
        removed.push(e.steps);
    }
}

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

fn render(root: &str, steps: &[Step]) -> String {
    let mut out = root.to_owned();
    for step in steps {
        match step {
            Step::Field(name) if out.is_empty() => out.push_str(name),
            Step::Field(name) => out.extend([".", name]),
            Step::Index(i) => out.push_str(&format!("[{i}]")),
        }
    }
    out
}

fn lookup<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |v, step| match step {
        Step::Field(name) => v.get(name),
        Step::Index(i) => v.get(i),
    })
}

/// Takes out what stands at `steps`; a list goes as a whole, so that indices stay true.
fn remove(value: &mut Value, steps: &[Step]) -> bool {
    let fields: Vec<&str> = steps
        .iter()
        .map_while(|s| match s {
            Step::Field(name) => Some(name.as_str()),
            Step::Index(_) => None,
        })
        .collect();
    let Some((last, parents)) = fields.split_last() else {
        return false;
    };
    let parent = parents.iter().try_fold(value, |v, name| v.get_mut(*name));
    parent
        .and_then(Value::as_object_mut)
        .and_then(|m| m.remove(*last))
        .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{IpPoolSpec, MeshConfigurationSpec, WorkloadEndpointSpec};
    use serde_json::{Map, json};

    fn faults<T: DeserializeOwned + std::fmt::Debug>(value: Value) -> Vec<String> {
        let mut out: Vec<String> = read::<T>(value, "spec")
            .unwrap_err()
            .into_iter()
            .map(|f| format!("{} {} | {} | {}", f.field, f.value, f.problem, f.mend))
            .collect();
        out.sort();
        out
    }

    #[test]
    fn every_fault_of_an_object_is_found() {
        let found = faults::<IpPoolSpec>(json!({
            "cidr": "10.0.0.5/24", "blockSize": 300, "vxlanMode": "always",
            "vxlanMod": "Always", "natOutgoing": "maybe", "zzz": null,
        }));
        assert_eq!(
            found,
            [
                "spec.blockSize 300 | is not allowed | write a whole number from 0 to 255",
                "spec.cidr \"10.0.0.5/24\" | 10.0.0.5/24 has host bits set: write 10.0.0.0/24 | ",
                "spec.natOutgoing \"maybe\" | is a string | write true or false",
                "spec.vxlanMod \"Always\" | unknown field | did you mean vxlanMode?",
                "spec.vxlanMode \"always\" | is not known | did you mean Always? One of Never, Always, CrossSubnet",
                "spec.zzz null | unknown field | known here: cidr, blockSize, vxlanMode, natOutgoing, disabled, \
                 nodeSelector, namespaceSelector, allowedUses, assignmentMode, disableBGPExport",
            ]
        );
    }

    #[test]
    fn faults_in_lists_name_their_place() {
        let found = faults::<WorkloadEndpointSpec>(json!({
            "node": 7,
            "ports": [{"protocol": "TCP", "port": 80}, {"protocol": "TCP", "port": 70000, "hostPor": 1}],
        }));
        assert_eq!(
            found,
            [
                "spec.node 7 | is a number | put it in quotes",
                "spec.ports[1].port 70000 | is not allowed | write a whole number from 0 to 65535",
            ]
        );
        let found = faults::<WorkloadEndpointSpec>(json!({"ports": [{"protocol": "TCP"}, 5]}));
        assert_eq!(found, ["spec.ports[0].port  | is required | "]);
    }

    #[test]
    fn null_and_empty_leave_the_default() {
        let mesh: MeshConfigurationSpec = read(
            json!({"mtu": null, "encryption": "", "vxlanPort": 8472}),
            "spec",
        )
        .unwrap();
        assert_eq!(mesh.vxlan_port, 8472);
        assert_eq!(
            faults::<IpPoolSpec>(json!({"cidr": ""})),
            ["spec.cidr  | is required | "]
        );
        assert_eq!(
            faults::<IpPoolSpec>(json!([])),
            ["spec [] | is a list | write a mapping"]
        );
    }

    #[test]
    fn hostile_objects_are_not_read_for_ever() {
        let labels: Map<String, Value> = (0..5000).map(|i| (i.to_string(), json!(1))).collect();
        let found = read::<crate::Metadata>(json!({"name": "x", "labels": labels}), "metadata");
        assert_eq!(found.unwrap_err().len(), MOST_FAULTS);
    }
}
