//! What lies between the program and the network: bounds of connections, TLS, secrets.

mod authority;
mod dependencies;
mod door;
mod tls;
mod vault;
