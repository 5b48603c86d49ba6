//! The routerd daemon: one per host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use routerd::config::{Config, EXIT_CONFIG};

/// Transactions and snapshots are many small strings, which the C library's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Encrypted overlay mesh routing daemon: one per host.
#[derive(Parser)]
#[command(name = "routerd", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon in the foreground.
    Run {
        /// Configuration file.
        #[arg(long, default_value = "/etc/routerd/routerd.toml")]
        config: PathBuf,
    },
    /// Check a configuration file; touches nothing.
    Check {
        /// Configuration file.
        #[arg(long, default_value = "/etc/routerd/routerd.toml")]
        config: PathBuf,
    },
    /// Remove every kernel object that is ours and put back the switches that we changed.
    Cleanup {
        /// Configuration file.
        #[arg(long, default_value = "/etc/routerd/routerd.toml")]
        config: PathBuf,
    },
    /// Write the manual pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let (config, action): (_, fn(Config) -> anyhow::Result<()>) = match Cli::parse().command {
        Command::Run { config } => (config, routerd::daemon::run),
        Command::Cleanup { config } => (config, |config| routerd::cleanup::run(&config)),
        Command::Check { config } => (config, |config| {
            println!("node {}: configuration is good", config.node);
            Ok(())
        }),
        Command::Man { dir } => return report(man(&dir)),
    };
    match Config::load(&config) {
        Ok(config) => report(action(config)),
        Err(e) => {
            eprintln!("routerd: {e}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn man(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}

fn report<E: Into<anyhow::Error>>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("routerd: {:#}", e.into());
            ExitCode::FAILURE
        }
    }
}
