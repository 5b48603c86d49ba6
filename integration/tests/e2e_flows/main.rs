//! What an operator sees of connections: flows, rules with their counters, metrics, what a change would cut.

mod diff;
mod rules;
mod scene;
mod told;
