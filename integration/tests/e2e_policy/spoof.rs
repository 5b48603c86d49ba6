//! A workload that pretends to be another.

use anyhow::{Result, ensure};
use integration::lab::probe::dial::{self, Outcome};
use integration::lab::{self, MeshSpec};

use crate::rig::{PATIENCE, WEB, expect, mesh, pod};

#[test]
fn a_workload_speaks_for_itself_only() -> Result<()> {
    lab::run("policy-spoof", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(1), "Never")?;
        let n1 = mesh.node(0)?;
        let liar = pod(lab, n1, "liar", &[])?;
        let victim = pod(lab, n1, "victim", &[])?;
        expect(&[(&liar, &victim, WEB, true)])?;
        let before = victim.doors.heard();
        for (other, len, v6) in [("10.65.77.77", 32, false), ("fd65:1::7777", 128, true)] {
            let (own, flag) = (liar.workload.ip(v6)?, if v6 { " nodad" } else { "" });
            (liar.ns()).ip(&format!(
                "addr add {other}/{len} dev eth0{flag}\naddr del {own}/{len} dev eth0"
            ))?;
            let got = dial::udp(liar.ns(), victim.at(v6, WEB)?, PATIENCE)?;
            ensure!(got == Outcome::Silent, "{got:?} as {other}");
            liar.ns().ip(&format!(
                "addr add {own}/{len} dev eth0{flag}\naddr del {other}/{len} dev eth0"
            ))?;
        }
        ensure!(
            victim.doors.heard() == before,
            "a datagram of a liar came through"
        );
        expect(&[(&liar, &victim, WEB, true)])?;
        let heard = victim.doors.heard();
        liar.ns().ip("link set eth0 address 02:00:00:00:77:77")?;
        for v6 in [false, true] {
            let got = dial::udp(liar.ns(), victim.at(v6, WEB)?, PATIENCE)?;
            ensure!(got == Outcome::Silent, "{got:?} from another MAC address");
        }
        ensure!(
            victim.doors.heard() == heard,
            "a frame of another MAC came through"
        );
        Ok(())
    })
}
