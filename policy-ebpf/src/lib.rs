//! Policy at every interface: the compiler of rules into tables, and the programs in the kernel that read them.
//!
//! ```text
//!  parties, policies, tiers, endpoints ──one change at a time──► Engine ──ordered operations──► maps ◄── programs
//! ```
