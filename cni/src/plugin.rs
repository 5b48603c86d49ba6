//! One invocation, from variables and configuration to what is printed.

use std::time::Duration;

use client::{Client, Limits};
use model::api::cni::{AddResult, Request};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::config::Config;
use crate::environment::{self, Getenv, Verb};
use crate::failure::{Code, Failure};
use crate::version::{self, Version};
use crate::{previous, result};

/// Does what the runtime asks; the text goes to stdout, `None` for verbs that print nothing.
pub(crate) fn run(getenv: Getenv<'_>, stdin: &[u8]) -> Result<Option<String>, Failure> {
    let verb = environment::verb(getenv)?;
    if verb == Verb::Version {
        return Ok(Some(versions(stdin)));
    }
    let attachment = if verb.has_attachment() {
        environment::attachment(verb, getenv)?
    } else {
        environment::Attachment::default()
    };
    let config = Config::parse(verb, stdin)?;
    let request = request(verb, attachment, &config)?;
    if verb == Verb::Add {
        let made: AddResult = ask(verb, &config, &request)?;
        if made.ips.is_empty() {
            return Err(Failure::new(
                Code::Daemon,
                "routerd assigned no address",
                format!(
                    "routerd answered ADD of {} without one",
                    request.container_id
                ),
            ));
        }
        return result::to_json(&made, &config.dns, config.version)
            .map(Some)
            .map_err(|e| Failure::new(Code::Daemon, "cannot encode the result", e.to_string()));
    }
    ask::<IgnoredAny>(verb, &config, &request)?;
    Ok(None)
}

/// The answer to VERSION, in the version that was asked in.
fn versions(stdin: &[u8]) -> String {
    let spoken = version::peek(stdin).unwrap_or(Version::NEWEST);
    serde_json::json!({
        "cniVersion": spoken.as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
    .to_string()
}

fn request(
    verb: Verb,
    attachment: environment::Attachment,
    config: &Config,
) -> Result<Request, Failure> {
    let arguments = attachment.arguments;
    let mut request = Request {
        network: config.name.clone(),
        container_id: attachment.container_id,
        netns: attachment.netns,
        ifname: attachment.ifname,
        valid_attachments: config.valid_attachments.clone().unwrap_or_default(),
        ..Request::default()
    };
    if verb.has_attachment() {
        request.kubernetes = arguments.pod_name.is_some();
        request.namespace = arguments
            .pod_namespace
            .unwrap_or_else(|| "default".to_owned());
        request.name = arguments
            .pod_name
            .unwrap_or_else(|| request.container_id.clone());
    }
    if matches!(verb, Verb::Add | Verb::Check) {
        request.labels.clone_from(&config.labels);
        // Conventions: a plugin that takes `args` must not look at the same thing in CNI_ARGS.
        request.ips = if config.ips.is_empty() {
            arguments.ips
        } else {
            config.ips.clone()
        };
        request.mac = config.mac.or(arguments.mac);
        request.ipv4_pools.clone_from(&config.ipv4_pools);
        request.ipv6_pools.clone_from(&config.ipv6_pools);
        request.sticky = config.sticky;
    }
    match (verb, &config.previous) {
        (Verb::Add, Some(_)) => Err(Failure::config(
            "prevResult: another plugin made an interface already: routerd-cni comes first in \"plugins\"",
        )),
        (Verb::Check, None) => Err(Failure::config(
            "prevResult: missing: CHECK needs the result of ADD",
        )),
        (Verb::Check, Some(value)) => {
            request.previous = Some(previous::parse(value, &request.ifname)?);
            Ok(request)
        }
        _ => Ok(request),
    }
}

fn ask<T: DeserializeOwned>(verb: Verb, config: &Config, request: &Request) -> Result<T, Failure> {
    let limits = Limits {
        connect: Duration::from_secs(5),
        overall: config.timeout,
        max_answer: 1 << 20,
    };
    Client::new(&config.socket, limits)
        .post(&client::paths::cni(verb.path()), request)
        .map_err(|e| Failure::of_daemon(verb, &config.socket, &e))
}
