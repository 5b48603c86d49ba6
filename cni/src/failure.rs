//! Errors as the specification words them, and what the daemon's mean in these terms.

use serde::Serialize;

use crate::environment::Verb;
use crate::version::Version;

/// Error codes: below 100 the specification's, from 100 on ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Incompatible CNI version.
    Version = 1,
    /// Unsupported field in the network configuration.
    Field = 2,
    /// The container is not known.
    UnknownContainer = 3,
    /// Invalid environment variables.
    Environment = 4,
    /// I/O failed.
    Io = 5,
    /// What came does not decode.
    Decode = 6,
    /// Invalid network configuration.
    Config = 7,
    /// Try again later.
    Later = 11,
    /// STATUS: no ADD can be served.
    Unavailable = 50,
    /// STATUS: and standing workloads may suffer.
    Limited = 51,
    /// The daemon failed.
    Daemon = 100,
    /// What is asked for contradicts what there is: an address that is taken, a CHECK that differs.
    Conflict = 101,
}

/// What a runtime is told when something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) msg: String,
    pub(crate) details: String,
}

impl Failure {
    pub(crate) fn new(code: Code, msg: impl Into<String>, details: impl Into<String>) -> Failure {
        Failure {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    /// A variable that cannot be used; the specification wants its name in the message.
    pub(crate) fn environment(name: &str, details: impl Into<String>) -> Failure {
        Failure::new(Code::Environment, format!("invalid {name}"), details)
    }

    /// A configuration that cannot be used.
    pub(crate) fn config(details: impl Into<String>) -> Failure {
        Failure::new(Code::Config, "invalid network configuration", details)
    }

    /// What the daemon's socket said or did not say.
    pub(crate) fn of_daemon(verb: Verb, socket: &str, error: &client::Error) -> Failure {
        use client::Error;
        let later = if verb == Verb::Status {
            Code::Unavailable
        } else {
            Code::Later
        };
        match error {
            Error::Connect { source, .. } if error.is_retryable() => Failure::new(
                later,
                "routerd is not running",
                format!(
                    "cannot connect to {socket}: {source}: start routerd, or name its socket as \"socket\" in the network configuration"
                ),
            ),
            Error::Connect { source, .. } => Failure::new(
                Code::Io,
                "routerd cannot be reached",
                format!("cannot connect to {socket}: {source}: the plugin has to run as root"),
            ),
            Error::Timeout { .. } | Error::Io { .. } => {
                Failure::new(later, "routerd does not answer", error.to_string())
            }
            Error::Broken { .. } => Failure::new(
                Code::Decode,
                "routerd gave a broken answer",
                error.to_string(),
            ),
            Error::Refused { status, body, .. } => {
                let code = code_of_status(verb, *status, body.retryable);
                Failure::new(code, format!("routerd refused {verb}"), body.error.as_str())
            }
        }
    }

    /// The JSON that goes to stdout.
    pub(crate) fn to_json(&self, version: Version) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let body = Body {
            cni_version: version.as_str(),
            code: self.code as u32,
            msg: &self.msg,
            details: &self.details,
        };
        // A struct of texts and a number always encodes.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// The table that `model::api::cni` documents.
fn code_of_status(verb: Verb, status: u16, retryable: bool) -> Code {
    match (verb, status) {
        (Verb::Status, 500) => Code::Limited,
        (Verb::Status, _) => Code::Unavailable,
        (_, 429 | 503 | 504) => Code::Later,
        _ if retryable => Code::Later,
        (_, 400 | 422) => Code::Config,
        (_, 404) => Code::UnknownContainer,
        (_, 409) => Code::Conflict,
        _ => Code::Daemon,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_codes() {
        for (verb, status, retryable, code) in [
            (Verb::Add, 503, true, Code::Later),
            (Verb::Add, 503, false, Code::Later),
            (Verb::Add, 500, true, Code::Later),
            (Verb::Add, 500, false, Code::Daemon),
            (Verb::Add, 409, false, Code::Conflict),
            (Verb::Add, 409, true, Code::Later),
            (Verb::Add, 422, false, Code::Config),
            (Verb::Check, 404, false, Code::UnknownContainer),
            (Verb::Status, 503, true, Code::Unavailable),
            (Verb::Status, 500, false, Code::Limited),
        ] {
            assert_eq!(
                code_of_status(verb, status, retryable),
                code,
                "{verb} {status}"
            );
        }
    }

    #[test]
    fn json_has_the_keys_of_the_specification() {
        let f = Failure::new(Code::Later, "not \"now\"", "");
        assert_eq!(
            f.to_json(Version::V0_2_0),
            r#"{"cniVersion":"0.2.0","code":11,"msg":"not \"now\""}"#
        );
    }
}
