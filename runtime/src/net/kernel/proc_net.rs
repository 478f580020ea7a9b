//! `/proc/net/tcp` and `/proc/net/tcp6` (`proc_pid_net(5)`): the same table as text, for processes
//! that may not use netlink. Slower: the kernel formats every socket of the machine.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::entry::{Entry, State, Timing};

/// A tick of the times in there: `USER_HZ` is 100 on every architecture that tokio runs on.
const TICK_US: u32 = 10_000;

/// The kernel's retransmission timeout is the round-trip time and at least this (`TCP_RTO_MIN`).
const LEAST_VARIANCE_US: u32 = 200_000;

/// Every socket of the machine's network namespace at this local port.
pub(super) fn dump(local: SocketAddr, mut each: impl FnMut(Entry)) -> io::Result<()> {
    let files: &[_] = match local {
        SocketAddr::V4(_) => &["/proc/net/tcp"],
        // IPv4 clients of a dual-stack listener are in the second file, too; where there is no IPv6
        // there is no such file, and no such listener.
        SocketAddr::V6(_) => &["/proc/net/tcp6"],
    };
    for file in files {
        let text = std::fs::read_to_string(file)?;
        text.lines().skip(1).filter_map(parse).for_each(|entry| {
            if entry.local.port() == local.port() {
                each(entry);
            }
        });
    }
    Ok(())
}

/// Whether any client is on the way to the listener with this inode, or waits in its queue; `None`:
/// the listener is not listed.
///
/// Each client holds a reference to the listening socket (`inet_reqsk_alloc()` in the kernel,
/// since Linux 4.4), whose count is in this table; the process holds one. Listeners come first in
/// it, so that it need not be read to its end: cheap where the whole table is large, as it is with
/// many sockets in `TIME_WAIT`.
pub(super) fn has_clients(local: SocketAddr, inode: u64) -> Option<bool> {
    const LISTEN: &str = "0A";
    let file = if local.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let lines = BufReader::with_capacity(4096, File::open(file).ok()?).lines().skip(1);
    for line in lines.map_while(Result::ok) {
        let mut fields = line.split_ascii_whitespace().skip(3);
        if fields.next() != Some(LISTEN) {
            return None;
        }
        // Behind queues, timer, retransmissions, user, timeout.
        let own = fields.nth(5).and_then(|it| it.parse::<u64>().ok()) == Some(inode);
        if own {
            return fields.next()?.parse::<u32>().ok().map(|references| references > 1);
        }
    }
    None
}

fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace();
    let local = address(fields.nth(1)?)?;
    let peer = address(fields.next()?)?;
    let state = State::from_number(u8::from_str_radix(fields.next()?, 16).ok()?);
    let (unacknowledged, _) = fields.next()?.split_once(':')?;
    // Behind timer, retransmissions, user, timeout, inode, references, address.
    let timeout = fields.nth(7).and_then(|ticks| ticks.parse::<u32>().ok());
    let timing = timeout.map(|ticks| Timing {
        round_trip_us: ticks.saturating_mul(TICK_US).saturating_sub(LEAST_VARIANCE_US),
        since_last_ack_ms: None,
        unsent: None,
        window: None,
    });
    let unacknowledged = u32::from_str_radix(unacknowledged, 16).ok()?;
    Some(Entry { local, peer, state, unacknowledged, timing })
}

/// Words of 32 bits, each in the machine's byte order, in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = *words.as_flattened().first_chunk()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_the_lines_of_the_kernel() {
        let line = "   3: 0100007F:1F90 0200007F:C350 01 00013178:00000000 01:00000015 00000000     0        0 36219 2 00000000f2b1 30 4 30 10 -1";
        let entry = parse(line).unwrap();
        assert_eq!(entry.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(entry.peer, "127.0.0.2:50000".parse().unwrap());
        assert_eq!((entry.state, entry.unacknowledged), (State::Other, 78_200));
        assert_eq!(entry.timing.unwrap().round_trip_us, 100_000);
        let line = "   1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000200007F:C350 03 00000000:00000000 01:00000015 00000000 0 0 0";
        let entry = parse(line).unwrap();
        assert_eq!(entry.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((entry.state, entry.timing), (State::SynRecv, None));
        assert_eq!(parse("  sl  local_address rem_address   st"), None);
    }
}
