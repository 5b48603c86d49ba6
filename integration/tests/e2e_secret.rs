//! Values of a `Secret` are stored, and shown by nothing.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Mesh, MeshSpec, Process, binaries};
use integration::scenario::CONVERGE;

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: { name: switches }\nstringData: { rack-a: VALUE }\n";
const PEER: &str = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: { name: rack-a }\nspec: { node: none, peerIP: 192.0.2.254, asNumber: 65001, \
                    password: { secretKeyRef: { name: switches, key: rack-a } } }\n";
/// Both in plain and in base64.
const VALUES: [&str; 4] = ["swordfish", "c3dvcmRmaXNo", "marlinspike", "bWFybGluc3Bpa2"];

#[test]
fn nothing_shows_the_value_of_a_secret() -> Result<()> {
    lab::run("secret", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
        mesh.start()?;
        let node = mesh.node(0)?;
        let mut said = String::new();
        let missing = node.ctl_stdin(&["apply", "-f", "-"], PEER)?;
        let named = missing
            .stderr
            .contains("there is no Secret/switches with the key rack-a");
        ensure!(missing.code == Some(1) && named, "{missing:?}");

        let mut command = node.ns.command(binaries::find("routerctl")?);
        command
            .args(["get", "secrets", "--watch", "-o", "json"])
            .env("ROUTERD_SOCKET", node.socket());
        let log = lab.subdir("watch")?.join("events");
        let mut watch = Process::start("routerctl get --watch", command, &log)?;

        // In one manifest the secret comes first, wherever it stands.
        let first = SECRET.replace("VALUE", "swordfish");
        node.apply(&format!("{PEER}---\n{first}"))?;
        let second = SECRET.replace("VALUE", "marlinspike");
        let diff = node.ctl_stdin(&["diff", "-f", "-"], &second)?;
        ensure!(
            diff.code == Some(1) && diff.stdout.contains("+    rack-a: \"*** (changed)\""),
            "{diff:?}"
        );
        said += &format!("{diff:?}");
        let same = node.ctl_stdin(&["diff", "-f", "-"], &first)?;
        ensure!(same.code == Some(0) && same.stdout.is_empty(), "{same:?}");
        node.apply(&second)?;
        for format in ["table", "wide", "yaml", "json"] {
            for name in [None, Some("switches")] {
                let args = ["get", "secrets", "-o", format].into_iter().chain(name);
                let args: Vec<&str> = args.collect();
                let shown = node.ctl(&args)?;
                let has_key = shown.stdout.contains("rack-a");
                ensure!(shown.code == Some(0) && has_key, "{args:?}: {shown:?}");
                said += &format!("{shown:?}");
            }
        }
        // What was shown is not taken back in its place.
        let shown = node.ctl(&["get", "secrets", "switches", "-o", "yaml"])?;
        let back = node.ctl_stdin(&["apply", "-f", "-"], &shown.stdout)?;
        ensure!(
            back.code == Some(1) && back.stderr.contains("stringData"),
            "{back:?}"
        );
        // A value at the wrong place is refused, and not repeated.
        let wrong = second.replace("stringData", "data");
        let wrong = node.ctl_stdin(&["apply", "-f", "-"], &wrong)?;
        ensure!(
            wrong.code == Some(1) && wrong.stderr.contains("spec.data"),
            "{wrong:?}"
        );
        said += &format!("{back:?} {wrong:?} {}", node.status()?);

        lab::wait_for(
            &mut watch,
            "the watch to tell of both values",
            CONVERGE,
            || {
                let events = std::fs::read_to_string(&log)?;
                ensure!(events.lines().count() == 2, "{events}");
                Ok(())
            },
        )?;
        said += &std::fs::read_to_string(&log)?;
        let daemon = mesh.node_mut(0)?.daemon().context("no daemon runs")?;
        said += &std::fs::read_to_string(daemon.log())?;
        let leaked: Vec<_> = VALUES.iter().filter(|v| said.contains(*v)).collect();
        ensure!(leaked.is_empty(), "{leaked:?} in {said}");
        Ok(())
    })
}
