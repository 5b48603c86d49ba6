//! What a change would cut.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::scene::{self, Scene, connect, listen, pair, policy, web_policy};

#[test]
fn a_diff_tells_what_it_would_cut() -> Result<()> {
    scene::run("flows-diff", |s| {
        let Scene { client, web, .. } = s;
        let n1 = s.here()?;
        let (_near, _there) = pair(client, web, 80)?;
        let (_far, _there) = pair(&s.far, web, 8080)?;
        let path = s.lab.subdir("diff")?.join("policy.json");
        let name = path.to_str().context("a path")?;
        let diff = |spec: &Value| -> Result<String> {
            std::fs::write(&path, policy("NetworkPolicy", spec))?;
            let out = n1.ctl(&["diff", "-f", name])?;
            ensure!(out.code == Some(1), "{out:?}");
            Ok(out.stdout)
        };
        // Port 8080 is in no rule. Attempts before there was a way back may live as well.
        let text = diff(&web_policy())?;
        ensure!(!text.contains("would cut 0 of"), "{text}");
        ensure!(
            text.contains("would cut TCP default/far -> default/web:8080: end of tier default")
                && !text.contains("web:80:"),
            "{text}"
        );
        let all = json!({ "selector": "app == 'web'", "types": ["Ingress"], "ingress": [{ "action": "Allow" }] });
        ensure!(diff(&all)?.contains("would cut 0 of"));
        // What was denied would pass.
        s.protect()?;
        let _listener = listen(&web.ns, web.ip(false)?, 81)?;
        ensure!(connect(&client.ns, web.ip(false)?, 81, Duration::from_millis(500)).is_err());
        let text = diff(&all)?;
        ensure!(
            text.contains("would allow TCP default/client -> default/web:81"),
            "{text}"
        );
        ensure!(text.contains("would cut 0 of"), "{text}");
        Ok(())
    })
}
