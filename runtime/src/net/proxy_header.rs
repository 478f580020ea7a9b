//! The PROXY protocol, versions 1 and 2: the address of a client behind a load balancer ("The PROXY
//! protocol", HAProxy's `doc/proxy-protocol.txt`).

use std::io;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

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
pub(super) async fn read(
    transport: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<ProxiedAddrs>> {
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
    // `ppp` also accepts a bare line feed, and ignores what follows it.
    if !header.ends_with(b"\r\n") {
        return Err(io::ErrorKind::InvalidData.into());
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

/// Reads a header from `bytes`, in pieces of `size`, as the fuzzer makes them up: what is read is
/// what the library says of the same bytes, and not one more is.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz target")]
pub fn read_proxy_header(bytes: &[u8], size: usize) {
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let (read, rest) = self.0.split_at(self.0.len().min(self.1).min(buf.remaining()));
            buf.put_slice(read);
            self.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    let mut pieces = Pieces(bytes, size);
    let read = pin!(read(&mut pieces)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(read) = read else { panic!("it waits for what is there") };
    let header = &bytes[..bytes.len() - pieces.0.len()];
    let expected = if header.starts_with(SIGNATURE) {
        v2::Header::try_from(header).ok().map(|header| addrs_v2(&header))
    } else if header.ends_with(b"\r\n") {
        v1::Header::try_from(header).ok().map(|header| addrs_v1(header.addresses))
    } else {
        // `ppp` also accepts a bare line feed, and ignores what follows it.
        None
    };
    assert_eq!(read.ok(), expected, "{header:?}");
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;

    /// A line feed alone ends no header. Within one that says `UNKNOWN` anything may stand before
    /// CR and LF, which a receiver has to ignore (`doc/proxy-protocol.txt`, section 2.1).
    #[tokio::test]
    async fn a_line_ends_with_cr_and_lf() {
        for (header, is_one) in [
            ("PROXY UNKNOWN\r\n", true),
            ("PROXY UNKNOWN ::1 ::1 1 1\r\n", true),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n", true),
            ("PROXY UNKNOWN\n", false),
            ("PROXY UNKNOWN \nGET /admin HTTP/1.1\nhost: x\n\n", false),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\n", false),
        ] {
            let bytes = header.to_owned() + &"x".repeat(if is_one { 0 } else { LONGEST_V1 });
            assert_eq!(read(&mut bytes.as_bytes()).await.is_ok(), is_one, "{header:?}");
        }
    }
}
