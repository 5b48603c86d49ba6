//! From a packet to the rule that decides about it.
