//! The servers that are part of this program: a socket without a session layer, and the session layer itself.
//!
//! Each serves in a process of its own, which the harness starts and pins.

pub(crate) mod bare;
pub(crate) mod lockstep;

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Listens with a backlog that takes thousands of clients at once, also right after a restart.
pub(crate) fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(4_096)
}
