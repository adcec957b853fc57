//! Contract of the broker port.
