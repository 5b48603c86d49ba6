//! How a command ends.

use std::process::ExitCode;

use crate::text::clean;

/// A command that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// All is as asked.
    Well,
    /// What was printed says that something differs or is not well.
    Differs,
}

/// A command that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The arguments contradict each other.
    Usage(String),
    /// What went wrong; one error or more.
    Failed(Vec<String>),
}

impl Failure {
    pub(crate) fn new(error: impl Into<String>) -> Failure {
        Failure::Failed(vec![error.into()])
    }

    /// One line an error, on stderr.
    pub(crate) fn print(&self) {
        let errors = match self {
            Failure::Usage(error) => std::slice::from_ref(error),
            Failure::Failed(errors) => errors,
        };
        for line in errors.iter().flat_map(|e| e.lines()) {
            eprintln!("error: {}", clean(line));
        }
        if matches!(self, Failure::Usage(_)) {
            eprintln!("\nFor more information, try '--help'.");
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<Done> for ExitCode {
    fn from(done: Done) -> ExitCode {
        match done {
            Done::Well => ExitCode::SUCCESS,
            Done::Differs => ExitCode::from(1),
        }
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> ExitCode {
        ExitCode::from(match failure {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
        })
    }
}
