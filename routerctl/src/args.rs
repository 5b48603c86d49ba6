//! What an operator types.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use model::{Cidr, Kind};

/// Talk to the routerd of this node.
#[derive(Debug, Parser)]
#[command(name = "routerctl", version, about, long_about = None)]
#[command(after_help = "Exit status: 0 done, 1 failed or differs, 2 wrong usage.")]
pub(crate) struct Args {
    /// Socket of routerd.
    #[arg(long, global = true, env = "ROUTERD_SOCKET", value_name = "PATH", default_value = client::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
    /// Longest wait for one answer, in seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) timeout: u64,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or update resources; all are checked before the first is written.
    Apply(Files),
    /// Show what apply would change; exit status 1 when it would.
    Diff(Files),
    /// Check manifests without talking to routerd.
    Validate(Files),
    /// Delete resources, by manifest or by kind and name.
    Delete(Delete),
    /// Show resources.
    Get(Get),
    /// Show how this node is.
    Status(Status),
    /// Show the update of the store that is held back because it would remove much; apply it with --yes.
    AcceptSnapshot {
        /// Apply it: what the store lacks is removed from this node.
        #[arg(long)]
        yes: bool,
    },
    /// Look at addresses, check and release them.
    #[command(subcommand)]
    Ipam(Ipam),
    /// Show how each other node is reached, and what is encrypted.
    Tunnels(Tunnels),
    /// Tell what becomes of a packet, and every policy, route and tunnel on its way that decides.
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Explain),
    /// Show BGP sessions and routes.
    #[command(subcommand)]
    Bgp(Bgp),
    /// Show who talks to whom, and what was denied by which rule.
    Flows(Flows),
    /// Look at policy.
    #[command(subcommand)]
    Policy(Policy),
    /// Look for what is wrong with this host, and how to mend it.
    Doctor(Format),
    /// Write completions for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages.
    #[command(hide = true)]
    Man {
        /// Directory to write to.
        dir: PathBuf,
    },
}

const EXPLAIN_HELP: &str = "An end is an address, NAMESPACE/NAME of a workload, or the name of a node or a host \
endpoint. Policy, routes and tunnels of this node are compared with what its kernel has; run it on the node of the \
other end to have those of that one compared.";

#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// Who sends.
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// Who is to get it.
    #[arg(value_name = "DST")]
    pub(crate) destination: String,
    /// Protocol: tcp, udp, sctp, icmp or a number.
    #[arg(long = "proto", value_name = "P", default_value = "tcp")]
    pub(crate) protocol: String,
    /// Destination port; without, what becomes of every port is told.
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Source port; without, one that clients use.
    #[arg(long, value_name = "N")]
    pub(crate) source_port: Option<u16>,
    /// Type of ICMP; without, an echo request.
    #[arg(long, value_name = "N")]
    pub(crate) icmp_type: Option<u8>,
    /// Code of ICMP.
    #[arg(long, value_name = "N", requires = "icmp_type")]
    pub(crate) icmp_code: Option<u8>,
    /// Show every rule that does not match, and policies that do not select an end.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Files {
    /// Manifest to read: a file, a directory of *.yaml, *.yml and *.json, or - for stdin.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE|-|DIR", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Delete {
    /// Manifest that names what to delete: a file, a directory, or - for stdin.
    #[arg(short = 'f', long = "filename", value_name = "FILE|-|DIR", value_hint = clap::ValueHint::AnyPath,
          conflicts_with_all = ["kind", "name", "namespace"], required_unless_present = "kind")]
    pub(crate) files: Vec<PathBuf>,
    /// Kind of the resource.
    #[arg(requires = "name", value_parser = KindParser)]
    pub(crate) kind: Option<Kind>,
    /// Name of the resource.
    pub(crate) name: Option<String>,
    /// Namespace of the resource; `default` by default.
    #[arg(short = 'n', long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// Take what does not exist for deleted.
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Get {
    /// Kind of the resources.
    #[arg(value_parser = KindParser)]
    pub(crate) kind: Kind,
    /// Name of one resource.
    pub(crate) name: Option<String>,
    /// Only this namespace; without a name all namespaces, with one `default`, by default.
    #[arg(short = 'n', long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// Only what has such labels, such as `app == 'web' && has(tier)`.
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "name")]
    pub(crate) selector: Option<String>,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t = GetFormat::Table)]
    pub(crate) output: GetFormat,
    /// Go on and print changes as they come.
    #[arg(short = 'w', long)]
    pub(crate) watch: bool,
}

/// How `get` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GetFormat {
    /// A table.
    Table,
    /// A table with more columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON; JSON lines with --watch.
    Json,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    /// Show what the daemon would change in the kernel now, instead; nothing when all is in place.
    #[arg(long)]
    pub(crate) plan: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Tunnels {
    #[command(subcommand)]
    pub(crate) action: Option<TunnelsAction>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TunnelsAction {
    /// Replace this node's key, without losing a packet.
    Rotate(Format),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Format {
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

/// How other commands print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Table,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Flows {
    /// Go on and print flows as they begin and end; from now on, unless --since says otherwise.
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// Only what was denied.
    #[arg(long)]
    pub(crate) denied: bool,
    /// Only what staged policies would decide otherwise or by themselves, and how.
    #[arg(long)]
    pub(crate) staged: bool,
    /// Only what was seen since then, and with --follow all that begins or ends from now on: a time such as 10m, or a date such as 2026-05-01T12:00:00Z.
    #[arg(long, value_name = "T")]
    pub(crate) since: Option<String>,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value_t = LineFormat::Table)]
    pub(crate) output: LineFormat,
}

/// How what comes line by line is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    /// For people.
    Table,
    /// JSON lines.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show the rules in force at an endpoint of this node, in order, with what they decided.
    Show {
        /// Name of a workload endpoint, else of a host endpoint; or an address.
        endpoint: String,
        /// Namespace of the workload endpoint.
        #[arg(short = 'n', long, value_name = "NS", default_value = "default")]
        namespace: String,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bgp {
    /// Show the sessions, and why one is not up.
    Peers(Format),
    /// Show the routes of the BGP table.
    Routes {
        /// One prefix only.
        prefix: Option<Cidr>,
        /// What one peer announced, by its address, name or node.
        #[arg(long, value_name = "P")]
        peer: Option<String>,
        /// What peers were told.
        #[arg(long)]
        advertised: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ipam {
    /// Show how much of pools and blocks is used, or who has an address.
    Show {
        /// Show blocks.
        #[arg(long)]
        blocks: bool,
        /// Show one address.
        #[arg(long, value_name = "A", conflicts_with = "blocks")]
        ip: Option<IpAddr>,
        #[command(flatten)]
        format: Format,
    },
    /// Check the address records; exit status 1 when they are not clean.
    Check(Format),
    /// Release addresses that nothing uses any more.
    Release {
        #[command(flatten)]
        what: Release,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, ClapArgs)]
#[group(id = "what", required = true, multiple = false)]
pub(crate) struct Release {
    /// One address.
    #[arg(long, value_name = "A")]
    pub(crate) ip: Option<IpAddr>,
    /// All addresses of a handle.
    #[arg(long, value_name = "H")]
    pub(crate) handle: Option<String>,
    /// All addresses and blocks of a deleted node.
    #[arg(long, value_name = "N")]
    pub(crate) node: Option<String>,
}

/// Takes a kind as `model::Kind` does, and offers the plurals to completions.
#[derive(Clone)]
struct KindParser;

impl TypedValueParser for KindParser {
    type Value = Kind;

    fn parse_ref(
        &self,
        cmd: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Kind, clap::Error> {
        StringValueParser::new()
            .try_map(|text| Kind::from_str(&text))
            .parse_ref(cmd, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            Kind::ALL
                .into_iter()
                .map(|k| PossibleValue::new(k.plural())),
        ))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }
}
