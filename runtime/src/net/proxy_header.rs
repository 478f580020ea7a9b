//! The PROXY protocol, versions 1 and 2: the address of a client behind a load balancer ("The PROXY
//! protocol", HAProxy's `doc/proxy-protocol.txt`).

use std::io;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt;

use super::stream::Transport;
use crate::util::ProxiedAddrs;

/// The signature of version 2, and the size of its fixed part, which contains the length of the
/// rest.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;

/// The longest header of version 1.
const LONGEST_V1: usize = 107;

/// Reads the header, and not a byte after it. Returns `None` if the balancer speaks for itself
/// (`LOCAL`, `UNKNOWN`), as in its health checks.
///
/// # Errors
///
/// If the connection does not begin with a header.
pub(super) async fn read(transport: &mut Transport) -> io::Result<Option<ProxiedAddrs>> {
    let mut header = vec![0; SIGNATURE.len()];
    // Either version is longer than this.
    transport.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(FIXED, 0);
        transport.read_exact(&mut header[SIGNATURE.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        // Grow the buffer as bytes arrive: 16 of them can declare 65,535 more, which nobody ever
        // sends.
        let read = transport.take(length as u64).read_to_end(&mut header).await?;
        if read < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = v2::Header::try_from(&header[..]).map_err(|_| io::ErrorKind::InvalidData)?;
        return Ok(addrs_v2(&header));
    }
    // A line, read byte by byte because what follows it is not ours.
    while header.starts_with(b"PROXY ") && !header.ends_with(b"\r\n") && header.len() < LONGEST_V1 {
        header.push(transport.read_u8().await?);
    }
    let header = v1::Header::try_from(&header[..]).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(addrs_v1(header.addresses))
}

fn addrs_v1(addresses: v1::Addresses) -> Option<ProxiedAddrs> {
    match addresses {
        v1::Addresses::Tcp4(it) => Some(ProxiedAddrs {
            peer: (it.source_address, it.source_port).into(),
            local: (it.destination_address, it.destination_port).into(),
        }),
        v1::Addresses::Tcp6(it) => Some(ProxiedAddrs {
            peer: (it.source_address, it.source_port).into(),
            local: (it.destination_address, it.destination_port).into(),
        }),
        v1::Addresses::Unknown => None,
    }
}

fn addrs_v2(header: &v2::Header<'_>) -> Option<ProxiedAddrs> {
    if header.command == v2::Command::Local {
        return None;
    }
    match header.addresses {
        v2::Addresses::IPv4(it) => Some(ProxiedAddrs {
            peer: (it.source_address, it.source_port).into(),
            local: (it.destination_address, it.destination_port).into(),
        }),
        v2::Addresses::IPv6(it) => Some(ProxiedAddrs {
            peer: (it.source_address, it.source_port).into(),
            local: (it.destination_address, it.destination_port).into(),
        }),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    }
}
