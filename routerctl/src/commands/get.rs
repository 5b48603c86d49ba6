//! `get`: resources as table, YAML or JSON, once or as they change.

use std::time::SystemTime;

use client::{Client, Target, paths};
use model::api::WatchEvent;
use serde_json::{Value, json};

use super::delete::{namespace_of, object_id};
use crate::args::{Get, GetFormat};
use crate::columns::Resources;
use crate::failure::{Done, Failure};
use crate::output::Out;
use crate::text;

pub(super) fn run(client: &Client, args: &Get, out: &mut Out) -> Result<Done, Failure> {
    if args.watch {
        return watch(client, args, out);
    }
    let Some(name) = &args.name else {
        let list: Value = super::get(client, &list_target(args)?)?;
        return print_list(args, &list, out);
    };
    let id = object_id(args.kind, name, args.namespace.as_deref())?;
    let object: Value = super::get(client, &paths::resource(&id))?;
    match args.output {
        GetFormat::Json => out.text(&text::json(&object)?),
        GetFormat::Yaml => out.text(&text::yaml(&object)?),
        GetFormat::Table | GetFormat::Wide => {
            let mut table = table(args, false);
            table.push("", &object);
            out.text(&table.render());
        }
    }
    Ok(Done::Well)
}

fn list_target(args: &Get) -> Result<Target, Failure> {
    let mut target = paths::resources(args.kind);
    if let Some(namespace) = namespace_of(args.kind, args.namespace.as_deref())? {
        target = target.query("namespace", namespace);
    }
    if let Some(selector) = &args.selector {
        target = target.query("labelSelector", selector);
    }
    Ok(target)
}

fn table(args: &Get, events: bool) -> Resources {
    let wide = args.output == GetFormat::Wide;
    Resources::new(args.kind, wide, events, SystemTime::now())
}

fn print_list(args: &Get, list: &Value, out: &mut Out) -> Result<Done, Failure> {
    match args.output {
        GetFormat::Json => out.text(&text::json(list)?),
        GetFormat::Yaml => out.text(&text::yaml(list)?),
        GetFormat::Table | GetFormat::Wide => {
            let items = list.get("items").and_then(Value::as_array);
            let items = items.ok_or_else(|| {
                Failure::new(format!(
                    "routerd answered no list of {}",
                    args.kind.plural()
                ))
            })?;
            if items.is_empty() {
                eprintln!("No {} found.", args.kind.plural());
                return Ok(Done::Well);
            }
            let mut table = table(args, false);
            for item in items {
                table.push("", item);
            }
            out.text(&table.render());
        }
    }
    Ok(Done::Well)
}

/// Prints until the daemon ends it, which is a failure, or nobody reads any more.
fn watch(client: &Client, args: &Get, out: &mut Out) -> Result<Done, Failure> {
    let mut target = list_target(args)?.query("watch", "true");
    if let (Some(_), true, None) = (&args.name, args.kind.is_namespaced(), &args.namespace) {
        target = target.query("namespace", "default");
    }
    let mut lines = client.watch(&target)?;
    // What stood at the start sets the widths of the columns.
    let mut table = table(args, true);
    let mut synced = false;
    while let Some(WatchEvent { event, object }) = lines.next_line()? {
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        if event == "SYNCED" {
            synced = true;
            if matches!(args.output, GetFormat::Table | GetFormat::Wide) {
                out.text(&table.render());
                table.drain();
            }
        } else if args.name.is_none() || args.name.as_deref() == name {
            match args.output {
                GetFormat::Json => {
                    out.line(&json!({"type": event, "object": object}).to_string());
                }
                GetFormat::Yaml => {
                    let document = json!({"type": event, "object": object});
                    out.text(&format!("---\n{}", text::yaml(&document)?));
                }
                GetFormat::Table | GetFormat::Wide => {
                    table.set_now(SystemTime::now());
                    table.push(&event, &object);
                    if synced {
                        out.text(&table.drain());
                    }
                }
            }
        }
        if out.is_closed() {
            return Ok(Done::Well);
        }
    }
    Err(Failure::new(format!(
        "routerd ended the watch of {}: start it again",
        args.kind.plural()
    )))
}
