//! Compiled tables against the evaluator that reads the resources themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod canonical;
mod dice;
mod errors;
mod explained;
mod feed;
mod flows;
mod history;
mod oracle;
mod samples;
mod verdicts;
