//! What a table of resources shows of each kind.

use std::time::SystemTime;

use model::Kind;
use serde_json::Value;

use crate::age::age;
use crate::table::{Cell, Table};

/// A column: its heading and where its value stands.
struct Column {
    heading: &'static str,
    /// JSON pointer.
    at: &'static str,
    /// What an absent value means.
    absent: &'static str,
    show: Show,
    wide: bool,
}

/// How a value becomes text.
#[derive(Clone, Copy)]
enum Show {
    /// As it is; lists with commas, maps as `key=value`.
    Plain,
    /// `true` as the first, anything else as the second.
    Either(&'static str, &'static str),
    /// The time since.
    Age,
    /// The keys of a map, with commas.
    Keys,
}

const fn column(heading: &'static str, at: &'static str) -> Column {
    Column {
        heading,
        at,
        absent: "",
        show: Show::Plain,
        wide: false,
    }
}

impl Column {
    const fn or(mut self, absent: &'static str) -> Column {
        self.absent = absent;
        self
    }

    const fn either(mut self, yes: &'static str, no: &'static str) -> Column {
        self.show = Show::Either(yes, no);
        self
    }

    const fn keys(mut self) -> Column {
        self.show = Show::Keys;
        self
    }

    const fn wide(mut self) -> Column {
        self.wide = true;
        self
    }

    fn cell(&self, object: &Value, now: SystemTime) -> Cell {
        let value = object.pointer(self.at).unwrap_or(&Value::Null);
        let text = match self.show {
            Show::Either(yes, _) if *value == Value::Bool(true) => yes.to_owned(),
            // Of a deleted object there is nothing to say.
            Show::Either(..) if object.get("spec").is_none() => String::new(),
            Show::Either(_, no) => no.to_owned(),
            Show::Age => age(value.as_str().unwrap_or_default(), now),
            Show::Keys => {
                let keys = value.as_object().into_iter().flat_map(|map| map.keys());
                keys.cloned().collect::<Vec<_>>().join(",")
            }
            Show::Plain if value.is_null() && object.get("spec").is_none() => String::new(),
            Show::Plain if value.is_null() => self.absent.to_owned(),
            Show::Plain => plain(value),
        };
        Cell::new(text)
    }
}

const NAME: Column = column("NAME", "/metadata/name");
const LABELS: Column = column("LABELS", "/metadata/labels").wide();
const AGE: Column = Column {
    show: Show::Age,
    ..column("AGE", "/metadata/creationTimestamp")
};

fn columns(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::Node => vec![
            NAME,
            column("IPV4", "/spec/bgp/ipv4Address"),
            column("IPV6", "/spec/bgp/ipv6Address"),
            column("SCHEDULABLE", "/spec/unschedulable").either("no", "yes"),
            AGE,
            column("VXLAN-IPV4", "/spec/ipv4VXLANTunnelAddr").wide(),
            column("VXLAN-IPV6", "/spec/ipv6VXLANTunnelAddr").wide(),
            column("ASN", "/spec/bgp/asNumber").wide(),
            LABELS,
        ],
        Kind::IPPool => vec![
            NAME,
            column("CIDR", "/spec/cidr"),
            column("VXLAN", "/spec/vxlanMode").or("Never"),
            column("NAT", "/spec/natOutgoing").either("yes", "no"),
            column("STATE", "/spec/disabled").either("Disabled", "Enabled"),
            AGE,
            column("BLOCK-SIZE", "/spec/blockSize").or("default").wide(),
            column("ASSIGNMENT", "/spec/assignmentMode")
                .or("Automatic")
                .wide(),
            column("USES", "/spec/allowedUses").wide(),
            column("NODE-SELECTOR", "/spec/nodeSelector")
                .or("all()")
                .wide(),
            column("NAMESPACE-SELECTOR", "/spec/namespaceSelector")
                .or("all()")
                .wide(),
            column("BGP-EXPORT", "/spec/disableBGPExport")
                .either("no", "yes")
                .wide(),
            LABELS,
        ],
        Kind::IPReservation => vec![NAME, column("CIDRS", "/spec/reservedCIDRs"), AGE, LABELS],
        Kind::IPAMConfiguration => vec![
            NAME,
            column("STRICT-AFFINITY", "/spec/strictAffinity").either("yes", "no"),
            column("MAX-BLOCKS-PER-HOST", "/spec/maxBlocksPerHost").or("0"),
            column("COOLDOWN-SECONDS", "/spec/cooldownSeconds").or("30"),
            AGE,
            column("AUTO-ALLOCATE", "/spec/autoAllocateBlocks")
                .or("true")
                .wide(),
        ],
        Kind::MeshConfiguration => vec![
            NAME,
            column("ENCRYPTION", "/spec/encryption").or("Off"),
            column("MTU", "/spec/mtu").or("auto"),
            column("VXLAN-PORT", "/spec/vxlanPort"),
            column("VNI", "/spec/vxlanVNI"),
            AGE,
            column("TO-HOST", "/spec/defaultEndpointToHostAction")
                .or("Return")
                .wide(),
        ],
        Kind::WorkloadEndpoint => vec![
            column("NAMESPACE", "/metadata/namespace"),
            NAME,
            column("NODE", "/spec/node"),
            column("NETWORKS", "/spec/ipNetworks"),
            column("INTERFACE", "/spec/interfaceName"),
            AGE,
            column("WORKLOAD", "/spec/workload").wide(),
            column("ENDPOINT", "/spec/endpoint").wide(),
            column("MAC", "/spec/mac").wide(),
            column("ORCHESTRATOR", "/spec/orchestrator").wide(),
            column("CONTAINER", "/spec/containerID").wide(),
            LABELS,
        ],
        Kind::Namespace => vec![NAME, column("LABELS", "/metadata/labels"), AGE],
        Kind::BGPConfiguration => vec![
            NAME,
            column("MESH", "/spec/nodeToNodeMeshEnabled").or("auto"),
            column("ASN", "/spec/asNumber").or("64512"),
            column("PORT", "/spec/listenPort").or("179"),
            column("HOLD-TIME", "/spec/holdTime").or("9s"),
            AGE,
            column("BIND", "/spec/bindMode").or("None").wide(),
        ],
        Kind::BGPPeer => vec![
            NAME,
            column("PEER", "/spec/peerIP"),
            column("ASN", "/spec/asNumber"),
            column("NODE", "/spec/node"),
            column("NODES", "/spec/nodeSelector"),
            AGE,
            column("INTERFACE", "/spec/peerInterface").wide(),
            column("PEER-SELECTOR", "/spec/peerSelector").wide(),
            column("FILTERS", "/spec/filters").wide(),
            column("LOCAL-ASN", "/spec/localASNumber").wide(),
            LABELS,
        ],
        Kind::BGPFilter => vec![NAME, AGE, LABELS],
        Kind::Secret => vec![NAME, column("KEYS", "/spec/data").keys(), AGE, LABELS],
        Kind::Tier => vec![
            NAME,
            column("ORDER", "/spec/order").or("last"),
            column("DEFAULT-ACTION", "/spec/defaultAction").or("Deny"),
            AGE,
            LABELS,
        ],
        Kind::GlobalNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedNetworkPolicy => policy_columns(kind),
        Kind::GlobalNetworkSet => vec![NAME, column("NETS", "/spec/nets"), AGE, LABELS],
        Kind::NetworkSet => vec![
            column("NAMESPACE", "/metadata/namespace"),
            NAME,
            column("NETS", "/spec/nets"),
            AGE,
            LABELS,
        ],
        Kind::HostEndpoint => vec![
            NAME,
            column("NODE", "/spec/node"),
            column("INTERFACE", "/spec/interfaceName"),
            column("IPS", "/spec/expectedIPs"),
            AGE,
            column("PROFILES", "/spec/profiles").wide(),
            LABELS,
        ],
    }
}

fn policy_columns(kind: Kind) -> Vec<Column> {
    let mut columns = Vec::new();
    if kind.is_namespaced() {
        columns.push(column("NAMESPACE", "/metadata/namespace"));
    }
    columns.push(NAME);
    if kind.is_staged() {
        columns.push(column("STAGED", "/spec/stagedAction").or("Set"));
    }
    columns.extend([
        column("TIER", "/spec/tier").or("default"),
        column("ORDER", "/spec/order").or("last"),
        column("SELECTOR", "/spec/selector").or("all()"),
        AGE,
        column("TYPES", "/spec/types").or("as its rules").wide(),
        LABELS,
    ]);
    columns
}

/// A table of one kind.
pub(crate) struct Resources {
    columns: Vec<Column>,
    table: Table,
    now: SystemTime,
    events: bool,
}

impl Resources {
    /// With `events` every row begins with what happened.
    pub(crate) fn new(kind: Kind, wide: bool, events: bool, now: SystemTime) -> Resources {
        let mut columns = columns(kind);
        columns.retain(|c| wide || !c.wide);
        let event = events.then_some("EVENT").into_iter();
        let mut table = Table::new(event.chain(columns.iter().map(|c| c.heading)));
        if events {
            // The longest comes seldom among the first.
            table.widen_first("MODIFIED".len());
        }
        Resources {
            table,
            columns,
            now,
            events,
        }
    }

    pub(crate) fn push(&mut self, event: &str, object: &Value) {
        let first = self.events.then(|| Cell::new(event)).into_iter();
        let cells = self.columns.iter().map(|c| c.cell(object, self.now));
        let row = first.chain(cells).collect();
        self.table.push(row);
    }

    pub(crate) fn set_now(&mut self, now: SystemTime) {
        self.now = now;
    }

    pub(crate) fn render(&self) -> String {
        self.table.render(false)
    }

    pub(crate) fn drain(&mut self) -> String {
        self.table.drain(false)
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(","),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;

    fn render(kind: Kind, wide: bool, objects: &[Value]) -> String {
        let now = UNIX_EPOCH + Duration::from_secs(86_400 * 3);
        let mut table = Resources::new(kind, wide, false, now);
        for object in objects {
            table.push("", object);
        }
        table.render()
    }

    const CREATED: &str = "1970-01-01T00:00:00Z";

    #[test]
    fn pools() {
        let pools = [
            json!({"metadata": {"name": "default", "creationTimestamp": CREATED}, "spec": {
                "cidr": "10.0.0.0/16", "vxlanMode": "CrossSubnet", "natOutgoing": true,
                "allowedUses": ["Workload", "Tunnel"]}}),
            json!({"metadata": {"name": "v6", "labels": {"a": "b", "c": ""}}, "spec": {
                "cidr": "fd00::/48", "disabled": true, "blockSize": 122, "nodeSelector": "has(rack)",
                "disableBGPExport": true}}),
        ];
        assert_eq!(
            render(Kind::IPPool, false, &pools),
            "\
NAME      CIDR          VXLAN         NAT   STATE      AGE
default   10.0.0.0/16   CrossSubnet   yes   Enabled    3d
v6        fd00::/48     Never         no    Disabled   -
"
        );
        assert_eq!(
            render(Kind::IPPool, true, &pools),
            "\
NAME      CIDR          VXLAN         NAT   STATE      AGE   BLOCK-SIZE   ASSIGNMENT   USES              NODE-SELECTOR   NAMESPACE-SELECTOR   BGP-EXPORT   LABELS
default   10.0.0.0/16   CrossSubnet   yes   Enabled    3d    default      Automatic    Workload,Tunnel   all()           all()                yes          -
v6        fd00::/48     Never         no    Disabled   -     122          Automatic    -                 has(rack)       all()                no           a=b,c=
"
        );
    }

    #[test]
    fn nodes_endpoints_and_the_rest() {
        let node = json!({"metadata": {"name": "a"}, "spec": {
            "bgp": {"ipv4Address": "192.0.2.1/24", "asNumber": 64512}, "unschedulable": true}});
        assert_eq!(
            render(Kind::Node, true, &[node]),
            "\
NAME   IPV4           IPV6   SCHEDULABLE   AGE   VXLAN-IPV4   VXLAN-IPV6   ASN     LABELS
a      192.0.2.1/24   -      no            -     -            -            64512   -
"
        );
        let endpoint = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {
            "node": "a", "ipNetworks": ["10.0.0.5/32", "fd00::5/128"], "interfaceName": "rtr1"}});
        assert_eq!(
            render(Kind::WorkloadEndpoint, false, &[endpoint]),
            "\
NAMESPACE   NAME   NODE   NETWORKS                  INTERFACE   AGE
shop        web    a      10.0.0.5/32,fd00::5/128   rtr1        -
"
        );
        let mesh = json!({"metadata": {"name": "default"}, "spec": {
            "encryption": "Required", "mtu": 1400, "vxlanPort": 4789, "vxlanVNI": 4096}});
        assert_eq!(
            render(Kind::MeshConfiguration, false, &[mesh]),
            "\
NAME      ENCRYPTION   MTU    VXLAN-PORT   VNI    AGE
default   Required     1400   4789         4096   -
"
        );
    }

    #[test]
    fn a_deleted_object_shows_its_name_and_nothing_made_up() {
        let gone = json!({"metadata": {"name": "p"}});
        assert_eq!(
            render(Kind::IPPool, false, &[gone]),
            "NAME   CIDR   VXLAN   NAT   STATE   AGE\np      -      -       -     -       -\n"
        );
    }

    /// Every pointer has to hit what the types write; a typo would show `-` for ever.
    #[test]
    fn columns_point_at_fields_that_exist() {
        for kind in Kind::ALL {
            for column in columns(kind) {
                let known = match column.at.strip_prefix("/spec/") {
                    None => [
                        "/metadata/name",
                        "/metadata/namespace",
                        "/metadata/labels",
                        "/metadata/creationTimestamp",
                    ]
                    .contains(&column.at),
                    Some(field) => is_field(kind, field),
                };
                assert!(known, "{kind} {}", column.at);
            }
        }
    }

    #[test]
    fn a_field_that_does_not_exist_is_told_apart() {
        assert!(is_field(Kind::IPPool, "natOutgoing"));
        assert!(!is_field(Kind::IPPool, "natOutgoin"));
        assert!(!is_field(Kind::Node, "bgb/ipv4Address"));
        assert!(!is_field(Kind::Node, "bgp/ipv4Adress"));
    }

    /// A strict decoder that accepts a field, or objects to its value only, knows the field.
    fn is_field(kind: Kind, path: &str) -> bool {
        let mut spec = json!({"x-not-a-value": []});
        for part in path.rsplit('/') {
            spec = json!({part: spec});
        }
        let object = json!({"kind": kind.as_str(), "metadata": {"name": "x"}, "spec": spec});
        match serde_json::from_value::<model::Object>(object) {
            Ok(_) => true,
            Err(e) => path
                .split('/')
                .all(|part| !e.to_string().contains(&format!("unknown field `{part}`"))),
        }
    }
}
