//! `tunnels`: how each other node is reached, and what is encrypted.

use client::{Client, paths};
use model::api::{NodePath, Rotated, TunnelShow, TunnelsShow};
use serde_json::{Value, json};

use crate::args::{OutputFormat, Tunnels, TunnelsAction};
use crate::failure::{Done, Failure};
use crate::output::{Colour, Out};
use crate::table::{Cell, Table};

pub(super) fn run(client: &Client, args: &Tunnels, out: &mut Out) -> Result<Done, Failure> {
    if let Some(TunnelsAction::Rotate(format)) = &args.action {
        return rotate(client, format.output, out);
    }
    let value: Value = super::get(client, &paths::tunnels())?;
    if !super::print_value(&value, args.format.output, out)? {
        show(&super::typed(value)?, out);
    }
    Ok(Done::Well)
}

fn rotate(client: &Client, format: OutputFormat, out: &mut Out) -> Result<Done, Failure> {
    let value: Value = client.post(&paths::rotate(), &json!({}))?;
    if !super::print_value(&value, format, out)? {
        let Rotated {
            public_key,
            used_after_seconds: wait,
        } = super::typed(value)?;
        out.line(&format!(
            "this node's key becomes {public_key}, {wait} s after the other nodes can know it"
        ));
    }
    Ok(Done::Well)
}

fn show(shown: &TunnelsShow, out: &mut Out) {
    let mut table = Table::new([
        "NODE",
        "PATH",
        "POST-QUANTUM",
        "HANDSHAKE",
        "RECEIVED",
        "SENT",
        "MTU",
        "ENDPOINT",
    ]);
    shown.tunnels.iter().for_each(|t| table.push(row(t)));
    out.text(&table.render(out.colour()));
    if let Some(bytes) = shown.clear_text_bytes {
        out.line(&format!("\n{bytes} bytes left in clear"));
    }
    if let Some(bytes @ 1..) = shown.clear_text_dropped_bytes {
        out.line(&format!("{bytes} bytes were dropped on the way out"));
    }
}

fn row(tunnel: &TunnelShow) -> Vec<Cell> {
    let path = format!("{:?}", tunnel.path);
    let path = match tunnel.path {
        NodePath::WireGuard => Cell::coloured(path, Colour::Green),
        NodePath::Barred => Cell::coloured(path, Colour::Red),
        NodePath::Direct | NodePath::Vxlan => Cell::new(path),
    };
    let number = |n: Option<u64>| Cell::new(n.map(|n| n.to_string()).unwrap_or_default());
    let age = tunnel.last_handshake_seconds.map(|s| format!("{s}s ago"));
    let endpoint = tunnel.endpoint.map(|e| e.to_string());
    vec![
        Cell::new(&tunnel.node),
        path,
        match tunnel.post_quantum {
            Some(true) => Cell::coloured("yes", Colour::Green),
            Some(false) => Cell::coloured("no", Colour::Red),
            None => Cell::new(""),
        },
        Cell::new(age.unwrap_or_default()),
        number(tunnel.rx_bytes),
        number(tunnel.tx_bytes),
        number(Some(u64::from(tunnel.mtu)).filter(|mtu| *mtu > 0)),
        Cell::new(endpoint.unwrap_or_default()),
    ]
}
