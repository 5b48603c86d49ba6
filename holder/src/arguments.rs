//! The command line, which only the daemon writes, and the log.

use anyhow::{Context, Result, bail};

/// What has to be known before the privileges are gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// UDP port; 0: any.
    pub(crate) port: u16,
    /// Mark of what is sent; 0: none.
    pub(crate) fwmark: u32,
    /// Logs one JSON object a line.
    pub(crate) json: bool,
}

impl Arguments {
    /// Reads `--port N --fwmark N [--json]`.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Arguments> {
        let mut arguments = Arguments::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word}: no number"));
            match word.as_str() {
                "--port" => arguments.port = value()?.parse().context("--port")?,
                "--fwmark" => arguments.fwmark = value()?.parse().context("--fwmark")?,
                "--json" => arguments.json = true,
                _ => bail!(
                    "{word:?}: routerd starts this program: --port N --fwmark N [--json]; use `wg show {}`",
                    model::marks::WIREGUARD
                ),
            }
        }
        Ok(arguments)
    }
}

/// Logs to standard error, as the daemon does.
pub(crate) fn init_log(json: bool) -> Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let started = match json {
        true => builder.json().flatten_event(true).try_init(),
        false => builder.try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("logging did not start: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_not_know_it_refuses() {
        let parse = |line: &str| Arguments::parse(line.split_whitespace().map(str::to_owned));
        let all = parse("--port 51820 --fwmark 536870912 --json").unwrap();
        let expected = Arguments {
            port: 51820,
            fwmark: model::marks::WIREGUARD_FWMARK,
            json: true,
        };
        assert_eq!(all, expected);
        assert_eq!(parse("").unwrap(), Arguments::default());
        for bad in ["--port", "--port 65536", "--fwmark x", "--help", "rtd.wg"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
