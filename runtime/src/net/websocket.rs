//! Where the messages of a WebSocket client begin and end (RFC 6455, section 5), so that a
//! connection can go to the next process although a library has read ahead.

/// The longest message that is kept while it is incomplete. A connection in the middle of a longer
/// one stays.
const LONGEST: usize = 1024 * 1024;

/// Follows the frames of a client, and keeps what belongs to a message that is not complete.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The complete frames of the current message.
    message: Vec<u8>,
    /// What has been read of the current frame.
    frame: Vec<u8>,
    /// How many bytes of its payload are missing; `None`: its header is incomplete.
    missing: Option<u64>,
    /// Whether this has lost track: no client sends that, or it is too long.
    is_lost: bool,
}

impl Frames {
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_lost {
            let taken = match self.missing {
                None => 1,
                Some(missing) => bytes.len().min(usize::try_from(missing).unwrap_or(usize::MAX)),
            };
            let (these, rest) = bytes.split_at(taken);
            self.frame.extend(these);
            bytes = rest;
            self.missing = match self.missing {
                None => self.payload(),
                Some(missing) => Some(missing - taken as u64),
            };
            if self.missing == Some(0) {
                self.end_frame();
            }
            self.is_lost |= self.message.len() + self.frame.len() > LONGEST;
        }
    }

    /// Returns the length of the payload, once the header is complete (section 5.2).
    fn payload(&mut self) -> Option<u64> {
        const MASKED: u8 = 0x80;
        let length = *self.frame.get(1)?;
        // Clients have to mask (section 5.1).
        self.is_lost |= length & MASKED == 0;
        let extended = match length & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.frame.len() < 2 + extended + 4 {
            return None;
        }
        Some(match extended {
            0 => u64::from(length & !MASKED),
            _ => {
                self.frame[2..2 + extended].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
            }
        })
    }

    fn end_frame(&mut self) {
        const FIN: u8 = 0x80;
        const CONTROL: u8 = 0x08;
        let first = self.frame[0];
        self.missing = None;
        if first & CONTROL != 0 {
            // It may come between the fragments of a message (section 5.4), and is seen to.
            self.frame.clear();
        } else if first & FIN == 0 {
            self.message.append(&mut self.frame);
        } else {
            self.frame.clear();
            self.message.clear();
        }
    }

    /// Returns what belongs to a message that is not complete; `None`: that is not known.
    pub(super) fn incomplete(&self) -> Option<Vec<u8>> {
        (!self.is_lost).then(|| [&self.message[..], &self.frame].concat())
    }
}

/// Follows frames that the fuzzer makes up: in pieces of `size` as in one, and what is kept begins
/// the same message.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz target")]
pub fn follow_websocket(bytes: &[u8], size: usize) {
    let (mut whole, mut pieces, mut again) =
        (Frames::default(), Frames::default(), Frames::default());
    whole.feed(bytes);
    bytes.chunks(size).for_each(|piece| pieces.feed(piece));
    let kept = whole.incomplete();
    assert_eq!(kept, pieces.incomplete(), "{bytes:?}");
    if let Some(kept) = kept {
        again.feed(&kept);
        assert_eq!(again.incomplete(), Some(kept), "{bytes:?}");
    }
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;
    use crate::util::Random;

    /// A frame of a client.
    fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![u8::from(fin) << 7 | opcode];
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
            middle if middle < 65_536 => {
                bytes.push(0xfe);
                bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                bytes.push(0xff);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    /// Random messages, in random fragments with control frames between them, cut anywhere and read
    /// in random pieces: what is kept begins the message that was not complete, without the control
    /// frames in it that were.
    #[test]
    fn keeps_what_is_incomplete_wherever_it_is_cut() {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for _ in 0..Random::times(1_000) {
            // Each frame, and whether it is a control frame or the last of its message.
            let mut frames: Vec<(Vec<u8>, bool, bool)> = Vec::new();
            for _ in 0..=random.below(3) {
                let fragments = 1 + random.below(3);
                for fragment in 0..fragments {
                    if random.below(3) == 0 {
                        let length = random.below(126);
                        let opcode = random.of(&[0x9, 0xa]);
                        frames.push((frame(true, opcode, &vec![b'c'; length]), true, false));
                    }
                    let length = random.of(&[0, 1, 7, 125, 126, 300, 70_000]);
                    let (opcode, is_last) = (u8::from(fragment == 0), fragment + 1 == fragments);
                    frames.push((frame(is_last, opcode, &vec![b'm'; length]), false, is_last));
                }
            }
            let stream: Vec<u8> = frames.iter().flat_map(|(bytes, ..)| bytes).copied().collect();
            let end = random.below(stream.len() + 1);
            let (mut incomplete, mut left) = (Vec::new(), end);
            for (bytes, is_control, is_last) in &frames {
                if left < bytes.len() {
                    incomplete.extend(&bytes[..left]);
                    break;
                }
                left -= bytes.len();
                match (is_control, is_last) {
                    (true, _) => {}
                    (false, true) => incomplete.clear(),
                    (false, false) => incomplete.extend(bytes),
                }
            }
            let mut followed = Frames::default();
            let mut rest = &stream[..end];
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(1 + random.below(rest.len()));
                followed.feed(piece);
                rest = more;
            }
            assert_eq!(followed.incomplete(), Some(incomplete));
        }
    }

    #[test]
    fn what_no_client_sends_is_not_followed() {
        let mut frames = Frames::default();
        frames.feed(&[0x81, 0x01, b'x']);
        assert_eq!(frames.incomplete(), None);
        let mut frames = Frames::default();
        frames.feed(&frame(false, 1, &vec![0; LONGEST]));
        assert_eq!(frames.incomplete(), None);
    }
}
