//! The daemon's socket: garbage, tricks in paths, a crowd.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Node};
use integration::scenario::{self, text};
use serde_json::{Value, json};

use crate::{STORE, one_node};

/// Sends raw bytes and reads what comes, up to the end of the connection or a second.
fn raw(node: &Node, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(node.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    // The daemon may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

#[test]
fn the_socket_withstands_garbage_tricks_and_a_crowd() -> Result<()> {
    lab::run("socket abuse", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let before = mesh.etcd.list(STORE)?;
        let pool =
            json!({ "apiVersion": "routerd/v1", "kind": "IPPool", "metadata": { "name": "p" },
            "spec": { "cidr": "10.80.0.0/16" } })
            .to_string();
        let tricks = [
            ("PUT", "/v1/resources/ippools/..%2f..%2fowners%2fn1"),
            ("PUT", "/v1/resources/ippools/%2e%2e"),
            ("PUT", "/v1/resources/ippools/a%00b"),
            ("PUT", "/v1/resources/ippools/../nodes/n1"),
            ("PUT", "/v1/resources/ippools/q"),
            ("PUT", "/v1/resources/ippools/p?dryRun=perhaps"),
            ("PUT", "/v1/resources/ippools/p?force=true"),
            ("PUT", "/v1/resources/%ff%fe/p"),
            ("DELETE", "/v1/resources/ippools/..%2f..%2fowners%2fn1"),
            ("DELETE", "/v1/resources/nodes/..%2f..%2fippools%2fv4"),
            ("DELETE", "/v1/resources/workloadendpoints/..%2fippools/v4"),
            ("DELETE", "/v1/resources/owners/n1"),
            ("GET", "/v1/resources/ippools/..%2fnodes%2fn1"),
            ("GET", "/v1/ipam/addresses/..%2f..%2fstatus"),
            ("GET", "/v1/ipam/addresses/10.0.0.999"),
            ("GET", "/v1/ipam?blocks=many"),
            ("GET", "/v1/resources/ippools?labelSelector=((("),
            ("POST", "/v1/ipam/release"),
            ("POST", "/v1/cni/add"),
            ("POST", "/v1/cni/explode"),
            ("POST", "/v1/status"),
            ("PATCH", "/v1/resources/ippools/v4"),
            ("POST", "/v1/datastore/accept"),
        ];
        for (method, path) in tricks {
            let answer = node.http(method, path, pool.as_bytes())?;
            ensure!(
                (400..500).contains(&answer.status),
                "{method} {path}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            let error: Value = serde_json::from_slice(&answer.body).with_context(|| {
                format!("{method} {path}: {}", String::from_utf8_lossy(&answer.body))
            })?;
            ensure!(
                !text(&error, "error")?.is_empty(),
                "{method} {path}: {error}"
            );
        }
        for args in [
            vec!["delete", "ippool", "../../owners/n1"],
            vec!["get", "ippool", "../nodes/n1"],
            vec!["get", "workloadendpoint", "x", "-n", "../.."],
            vec!["get", "ippools", "-l", "((("],
        ] {
            let out = node.ctl(&args)?;
            ensure!(
                out.code == Some(1) && !out.stderr.trim().is_empty(),
                "{args:?}: {out:?}"
            );
        }

        let head = "GET /v1/status HTTP/1.1\r\nHost: x\r\n";
        let garbage: Vec<Vec<u8>> = vec![
            vec![0; 4096],
            vec![0xff; 4096],
            b"\r\n\r\n\r\n".to_vec(),
            b"GET".to_vec(),
            b"GET / HTTP/9.9\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            format!("{head}X: {}\r\n\r\n", "a".repeat(4 << 20)).into_bytes(),
            format!("{head}{}\r\n", "A: b\r\n".repeat(100_000)).into_bytes(),
            format!("{head}Content-Length: -5\r\n\r\n").into_bytes(),
            format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello").into_bytes(),
            b"PUT /v1/resources/ippools/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
            b"PUT /v1/resources/ippools/p HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        ];
        for bytes in garbage {
            let answer = raw(node, &bytes)?;
            ensure!(
                !answer.starts_with(b"HTTP/1.1 2"),
                "garbage was served: {}",
                String::from_utf8_lossy(&answer)
            );
        }

        // A thousand at once, all answered.
        let mut crowd = Vec::new();
        for _ in 0..1000 {
            let mut stream = UnixStream::connect(node.socket())?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
            crowd.push(stream);
        }
        for (i, mut stream) in crowd.into_iter().enumerate() {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            ensure!(answer.starts_with(b"HTTP/1.1 200"), "request {i} of 1000");
        }
        ensure!(mesh.etcd.list(STORE)? == before, "something was written");
        scenario::ipam_is_clean(node)
    })
}
