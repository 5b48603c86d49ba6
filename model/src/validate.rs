//! What a resource must be, beyond having the right fields.

mod error;

pub use error::ValidationError;
pub(crate) use error::nearest;
