//! `ipam`: addresses and their records.

mod bar;

use client::{Client, paths};
use model::Cidr;
use model::api::{AddressShow, AddressState, IpamCheck, IpamShow, Release, Released};
use serde_json::{Value, json};

use crate::args::{Ipam, OutputFormat, Release as ReleaseArgs};
use crate::failure::{Done, Failure};
use crate::output::{Colour, Out};
use crate::progress::Progress;
use crate::table::{Cell, Table};

pub(super) fn run(client: &Client, command: Ipam, out: &mut Out) -> Result<Done, Failure> {
    match command {
        Ipam::Show {
            ip: Some(ip),
            format,
            ..
        } => {
            let value: Value = super::get(client, &paths::ipam_address(ip))?;
            if !super::print_value(&value, format.output, out)? {
                show_address(&super::typed(value)?, out);
            }
            Ok(Done::Well)
        }
        Ipam::Show { blocks, format, .. } => show(client, blocks, format.output, out),
        Ipam::Check(format) => check(client, format.output, out),
        Ipam::Release { what, format } => release(client, what, format.output, out),
    }
}

fn show(
    client: &Client,
    blocks: bool,
    format: OutputFormat,
    out: &mut Out,
) -> Result<Done, Failure> {
    let (target, key) = if blocks {
        (paths::ipam().query("blocks", "true"), "blocks")
    } else {
        (paths::ipam(), "pools")
    };
    let mut value: Value = super::get(client, &target)?;
    // The daemon leaves out what is empty; scripts want the list.
    if let Some(map) = value.as_object_mut() {
        map.entry(key).or_insert_with(|| json!([]));
    }
    if super::print_value(&value, format, out)? {
        return Ok(Done::Well);
    }
    let show: IpamShow = super::typed(value)?;
    let colour = out.colour();
    let text = if blocks {
        blocks_table(&show).render(colour)
    } else {
        pools_table(&show).render(colour)
    };
    out.text(&text);
    Ok(Done::Well)
}

fn pools_table(show: &IpamShow) -> Table {
    let mut table = Table::new(["NAME", "CIDR", "CAPACITY", "USED", "BLOCKS", "USE"]);
    for pool in &show.pools {
        table.push(vec![
            Cell::new(&pool.name),
            Cell::new(pool.cidr.to_string()),
            Cell::new(bar::count(pool.capacity)),
            Cell::new(pool.used.to_string()),
            Cell::new(pool.blocks.to_string()),
            Cell::new(bar::bar(pool.used, pool.capacity)),
        ]);
    }
    table
}

fn blocks_table(show: &IpamShow) -> Table {
    let mut table = Table::new(["CIDR", "NODE", "USED", "FREE", "USE"]);
    for block in &show.blocks {
        table.push(vec![
            Cell::new(block.cidr.to_string()),
            Cell::new(&block.node),
            Cell::new(block.used.to_string()),
            Cell::new(block.free.to_string()),
            Cell::new(bar::bar(block.used, size(&block.cidr))),
        ]);
    }
    table
}

fn size(cidr: &Cidr) -> u64 {
    u64::try_from(cidr.size()).unwrap_or(u64::MAX)
}

fn show_address(address: &AddressShow, out: &mut Out) {
    let mut table = Table::new(["IP", "STATE", "NODE", "NAMESPACE", "NAME", "HANDLE"]);
    let colour = match address.state {
        AddressState::Free => Colour::Green,
        AddressState::Used => Colour::Cyan,
        AddressState::Cooldown | AddressState::Reserved => Colour::Yellow,
    };
    table.push(vec![
        Cell::new(address.ip.to_string()),
        Cell::coloured(format!("{:?}", address.state), colour),
        Cell::new(&address.node),
        Cell::new(&address.namespace),
        Cell::new(&address.name),
        Cell::new(&address.handle),
    ]);
    let text = table.render(out.colour());
    out.text(&text);
}

fn check(client: &Client, format: OutputFormat, out: &mut Out) -> Result<Done, Failure> {
    let value: Value = super::get(client, &paths::ipam_check())?;
    let printed = super::print_value(&value, format, out)?;
    let check: IpamCheck = super::typed(value)?;
    if !printed && check.clean {
        out.line("The address records are clean.");
    } else if !printed {
        let mut table = Table::new(["KIND", "OBJECT", "PROBLEM"]);
        for problem in &check.problems {
            table.push(vec![
                Cell::coloured(&problem.kind, Colour::Red),
                Cell::new(&problem.object),
                Cell::new(&problem.message),
            ]);
        }
        let text = table.render(out.colour());
        out.text(&text);
    }
    Ok(if check.clean {
        Done::Well
    } else {
        Done::Differs
    })
}

fn release(
    client: &Client,
    what: ReleaseArgs,
    format: OutputFormat,
    out: &mut Out,
) -> Result<Done, Failure> {
    let request = match what {
        ReleaseArgs { ip: Some(ip), .. } => Release::Ip(ip),
        ReleaseArgs {
            handle: Some(handle),
            ..
        } => Release::Handle(handle),
        ReleaseArgs {
            node: Some(node), ..
        } => Release::Node(node),
        _ => return Err(Failure::Usage("one of --ip, --handle, --node".to_owned())),
    };
    let value: Value = {
        let _progress = Progress::start("releasing");
        client.post(&paths::ipam_release(), &request)?
    };
    if super::print_value(&value, format, out)? {
        return Ok(Done::Well);
    }
    let released: Released = super::typed(value)?;
    for ip in &released.addresses {
        out.line(&format!("address {ip} released"));
    }
    for block in &released.blocks {
        out.line(&format!("block {block} released"));
    }
    if released.addresses.is_empty() && released.blocks.is_empty() {
        out.line("nothing to release");
    }
    Ok(Done::Well)
}
