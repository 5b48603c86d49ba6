//! The `CNI_*` variables.

use std::ffi::OsString;
use std::fmt;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::version::Version;

/// Where variables come from.
pub(crate) type Getenv<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What a runtime asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Verb {
    const ALL: [Verb; 6] = [
        Verb::Add,
        Verb::Del,
        Verb::Check,
        Verb::Status,
        Verb::Gc,
        Verb::Version,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Status => "STATUS",
            Verb::Gc => "GC",
            Verb::Version => "VERSION",
        }
    }

    /// The last part of the daemon's path.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Del => "del",
            Verb::Check => "check",
            Verb::Status => "status",
            Verb::Gc => "gc",
            Verb::Version => "version",
        }
    }

    /// The version that brought the verb.
    pub(crate) const fn since(self) -> Version {
        match self {
            Verb::Add | Verb::Del | Verb::Version => Version::V0_1_0,
            Verb::Check => Version::V0_4_0,
            Verb::Status | Verb::Gc => Version::V1_1_0,
        }
    }

    /// Whether it is about one attachment.
    pub(crate) const fn has_attachment(self) -> bool {
        matches!(self, Verb::Add | Verb::Del | Verb::Check)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which interface of which container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) container_id: String,
    /// Absolute; empty when the runtime names none, which only DEL allows.
    pub(crate) netns: String,
    pub(crate) ifname: String,
    pub(crate) arguments: Arguments,
}

fn text(getenv: Getenv<'_>, name: &str) -> Result<String, Failure> {
    getenv(name)
        .unwrap_or_default()
        .into_string()
        .map_err(|_| Failure::environment(name, format!("{name} is not UTF-8")))
}

/// `CNI_COMMAND`.
pub(crate) fn verb(getenv: Getenv<'_>) -> Result<Verb, Failure> {
    let given = text(getenv, "CNI_COMMAND")?;
    Verb::ALL
        .into_iter()
        .find(|v| v.as_str() == given)
        .ok_or_else(|| {
            Failure::environment(
                "CNI_COMMAND",
                format!(
                    "CNI_COMMAND is {given:?}: use one of {}",
                    Verb::ALL.map(Verb::as_str).join(", ")
                ),
            )
        })
}

/// The variables that say which interface of which container.
pub(crate) fn attachment(verb: Verb, getenv: Getenv<'_>) -> Result<Attachment, Failure> {
    let container_id = text(getenv, "CNI_CONTAINERID")?;
    if !is_identifier(&container_id) {
        return Err(Failure::environment(
            "CNI_CONTAINERID",
            format!(
                "CNI_CONTAINERID is {container_id:?}: a letter or digit, then letters, digits, '_', '.' and '-'"
            ),
        ));
    }
    let ifname = text(getenv, "CNI_IFNAME")?;
    if !is_ifname(&ifname) {
        return Err(Failure::environment(
            "CNI_IFNAME",
            format!(
                "CNI_IFNAME is {ifname:?}: 1 to 15 bytes, not \".\" or \"..\", without '/', ':' and white space"
            ),
        ));
    }
    let mut netns = text(getenv, "CNI_NETNS")?;
    if !netns.starts_with('/') {
        if verb != Verb::Del {
            // The daemon has another working directory, so a relative path means nothing to it.
            return Err(Failure::environment(
                "CNI_NETNS",
                format!("CNI_NETNS is {netns:?}: the absolute path of a network namespace"),
            ));
        }
        netns.clear();
    }
    let arguments = Arguments::parse(&text(getenv, "CNI_ARGS")?)?;
    Ok(Attachment {
        container_id,
        netns,
        ifname,
        arguments,
    })
}

/// The form that the specification gives container ids and network names.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// What the kernel takes as the name of an interface.
fn is_ifname(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for good in ["a", "0", "a.b_c-D", &"x".repeat(300)] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "a b", "é", "a\n"] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
    }

    #[test]
    fn interface_names() {
        for good in ["a", "eth0", "eth0.100", "...", "0123456789abcde"] {
            assert!(is_ifname(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "0123456789abcdef",
            "ééééééééé",
        ] {
            assert!(!is_ifname(bad), "{bad:?}");
        }
    }
}
