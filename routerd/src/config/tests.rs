//! What is accepted, and what is refused with which words.

use calc::underlay::Choice;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("routerd.toml")).map_err(|e| e.to_string())
}

#[test]
fn an_empty_file_is_a_single_node() {
    let config = parse("").unwrap();
    assert!(!config.node.is_empty());
    assert_eq!(config.datastore.kind, DatastoreKind::Embedded);
    assert_eq!(config.socket(), Path::new("/run/routerd/routerd.sock"));
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:9091");
}

#[test]
fn the_documented_file_parses() {
    let config = parse(
        r#"
        node = "rack1-a"
        state_dir = "/var/lib/routerd"
        [datastore]
        kind = "etcd"
        endpoints = ["https://10.0.0.10:2379"]
        prefix = "/routerd/v1"
        [underlay]
        ipv4 = "192.0.2.7/24"
        ipv6 = "auto"
        interface = "eth0"
        [metrics]
        listen = "127.0.0.1:9091"
        [log]
        level = "info,datastore=debug"
        format = "json"
        "#,
    )
    .unwrap();
    assert_eq!(config.node, "rack1-a");
    assert_eq!(config.log.format, LogFormat::Json);
    let Choice::Address(address) = config.underlay.ipv4.0 else {
        panic!("not fixed")
    };
    assert_eq!(address.to_string(), "192.0.2.7/24");
}

#[test]
fn an_unknown_field_is_named_with_the_nearest_known() {
    let e = parse("[datastore]\nendpoint = []\n").unwrap_err();
    assert!(e.contains("unknown field `endpoint`"), "{e}");
    assert!(e.ends_with("did you mean `endpoints`?"), "{e}");
}

#[test]
fn values_that_cannot_be_are_refused_with_the_mend() {
    for (text, field) in [
        ("node = \"../etc\"", "node = \"../etc\""),
        ("state_dir = \"var\"", "state_dir"),
        ("[datastore]\nkind = \"etcd\"", "datastore.endpoints"),
        (
            "[datastore]\nendpoints = [\"http://x\"]",
            "datastore.endpoints",
        ),
        (
            "[datastore]\nkind = \"etcd\"\nendpoints = [\"10.0.0.1:2379\"]",
            "datastore.endpoints",
        ),
        (
            "[datastore]\nkind = \"etcd\"\nendpoints = [\"http://a:1\"]\nprefix = \"x/\"",
            "datastore.prefix",
        ),
        (
            "[datastore]\nkind = \"etcd\"\nendpoints = [\"http://a:1\"]\ncert = \"/x\"",
            "datastore.cert",
        ),
        (
            "[datastore]\nkind = \"etcd\"\nendpoints = [\"http://a:1\"]\nca = \"/no/such\"",
            "datastore.ca",
        ),
        ("[underlay]\nipv4 = \"fd00::1/64\"", "underlay.ipv4"),
        ("[underlay]\nipv4 = \"nonsense\"", "ipv4"),
        (
            "[underlay]\ninterface = \"much-too-long-a-name\"",
            "interface",
        ),
        ("[log]\nlevel = \"info,=,\"", "log.level"),
        ("[metrics]\nlisten = \"nine\"", "listen"),
    ] {
        let e = parse(text).unwrap_err();
        assert!(
            e.starts_with("routerd.toml: ") && e.contains(field),
            "{text}: {e}"
        );
    }
}
