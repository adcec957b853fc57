//! What lies between the program and the network: bounds of connections, TLS, secrets.

mod authority;
mod door;
mod tls;
mod vault;
