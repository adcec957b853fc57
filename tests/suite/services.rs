//! Where real services come from.
