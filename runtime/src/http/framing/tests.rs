use super::{Framing, Position, ReadSummary, oracle};
use crate::util::Random;

/// Asserts that the two agree on `pieces`; returns whether there was anything to compare.
#[track_caller]
fn compare(pieces: &[&[u8]]) -> bool {
    oracle::compare(pieces).unwrap_or_else(|difference| panic!("{difference}"))
}

/// Compares every prefix of `stream`, in one piece, byte by byte, and in two pieces.
fn every_prefix(stream: &[u8]) {
    for end in 0..=stream.len() {
        let prefix = &stream[..end];
        assert!(compare(&[prefix]), "{}", String::from_utf8_lossy(prefix));
        compare(&prefix.chunks(1).collect::<Vec<_>>());
        compare(&[&prefix[..end / 2], &prefix[end / 2..]]);
    }
}

#[test]
fn agrees_with_hyper_at_every_byte() {
    let streams: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n\nGET / HTTP/1.1\n\nGET / HTTP/1.1\n\r\n",
        b"GET / HTTP/1.1\r\ncookie: a\r\nte: x\r\ncontent-type: y\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\na\r\n\r\nb\n\ncPOST / HTTP/1.1\r\nContent-Length: 1 \r\n\r\nxGET",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip , chunked\t\r\n\r\n5;a=b;c\r\n\r\n0\r\n\r\n0 ;x\r\na: b\r\nc: d\r\n\r\nGET / HT",
        b"GET / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc\r\n\r\nxyGET / HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-lengthy: 3\r\ntransfer-encodin: chunked\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\nDELETE /a HTTP/1.1\r\n\r\n",
    ];
    for stream in streams {
        every_prefix(stream);
    }
}

/// hyper uses the coding, and may close the connection after the response (RFC 9112, section 6.3).
#[test]
fn a_coding_overrides_a_length() {
    let streams: [&[u8]; 2] = [
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0a\r\n0123456789\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ];
    for stream in streams {
        for end in 0..=stream.len() {
            compare(&[&stream[..end]]);
        }
        let position = |bytes: &[u8]| oracle::ask(&[bytes]).1.position();
        assert_eq!(position(stream), Position::Between);
        assert_eq!(position(&stream[..stream.len() - 1]), Position::InBody);
    }
}

#[test]
fn hyper_closes_what_it_rejects() {
    let streams: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunkedx\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        b"GET / HTTP/1.1\rhost: x\r\n\r\n",
    ];
    for stream in streams {
        assert!(!compare(&[stream]), "{}", String::from_utf8_lossy(stream));
    }
}

#[test]
fn says_what_a_read_has_brought() {
    let head = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";
    let mut framing = Framing::new();
    assert_eq!(framing.read(&[&head[..], head].concat(), 0), ReadSummary::Plain);
    // By then, hyper has found two heads.
    assert_eq!(framing.read(head, 2), ReadSummary::Plain);
    assert_eq!(framing.read(b"\r\n", 3), ReadSummary::NoHead);
    assert_eq!(framing.read(&[b"\r\n", &head[..]].concat(), 3), ReadSummary::WholeHead(2));
    assert_eq!(framing.read(&[&post[..], b"body", head].concat(), 4), ReadSummary::OtherHeads);
    assert_eq!(framing.read(&[&head[..], b"GET"].concat(), 6), ReadSummary::WholeHead(0));
    assert_eq!(framing.read(b" /", 7), ReadSummary::PartOfHead);
    assert_eq!(framing.read(b" HTTP/1.1\n\n", 7), ReadSummary::OtherHeads);
    assert_eq!(framing.read(post, 8), ReadSummary::WholeHead(0));
    assert_eq!(framing.read(&[b"body", &head[..]].concat(), 9), ReadSummary::WholeHead(4));
    assert_eq!((framing.heads(), framing.position()), (10, Position::Between));
    assert_eq!(framing.read(head, 10), ReadSummary::Plain);
    assert_eq!(framing.position(), Position::Plain);
}

/// Requests that clients may send.
impl Random {
    /// Generates a message that hyper accepts.
    fn message(&mut self, out: &mut Vec<u8>) {
        let end = self.of(&["\r\n", "\r\n", "\n"]);
        out.extend(self.of(&["", "", "\r\n", "\n", "\r\n\r\n"]).bytes());
        out.extend(self.of(&["GET / HTTP/1.1", "POST /a?b HTTP/1.1", "PUT /x HTTP/1.1"]).bytes());
        out.extend(end.bytes());
        for _ in 0..self.below(4) {
            out.extend(
                self.of(&["host: x", "cookie: c=d", "te: y", "t: ", "content-type: z", "x:\ty"])
                    .bytes(),
            );
            out.extend(end.bytes());
        }
        let text = b"a\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n\n\n";
        match self.below(3) {
            0 => out.extend(end.bytes()),
            1 => {
                let size = self.below(text.len());
                out.extend(
                    self.of(&["content-length:", "Content-Length: ", "CONTENT-LENGTH:\t"]).bytes(),
                );
                out.extend(size.to_string().bytes().chain(end.bytes()).chain(end.bytes()));
                out.extend(&text[..size]);
            }
            _ => {
                out.extend(
                    self.of(&["transfer-encoding:chunked", "Transfer-Encoding: x, Chunked "])
                        .bytes(),
                );
                out.extend(end.bytes().chain(end.bytes()));
                for _ in 0..self.below(3) {
                    let size = 1 + self.below(text.len() - 1);
                    out.extend(format!("{size:x}").bytes());
                    out.extend(self.of(&["\r\n", " \r\n", ";ext=\"\\\"\"\r\n"]).bytes());
                    out.extend(text[..size].iter().chain(b"\r\n"));
                }
                out.extend(self.of(&["0\r\n\r\n", "000\r\nt: r\r\n\r\n", "0;e\r\n\r\n"]).bytes());
            }
        }
    }

    fn split<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let longest = 1 + self.below(40);
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(1 + self.below(longest)));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// Pipelines of valid messages, truncated anywhere, split anyhow.
#[test]
fn agrees_with_hyper_on_random_pipelines() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..Random::times(4_000) {
        let mut stream = Vec::new();
        for _ in 0..=random.below(4) {
            random.message(&mut stream);
        }
        let end = if random.below(3) == 0 { stream.len() } else { random.below(stream.len() + 1) };
        assert!(compare(&random.split(&stream[..end])), "{}", String::from_utf8_lossy(&stream));
    }
}

/// The same with a few bytes changed: most pipelines are rejected somewhere.
#[test]
fn agrees_with_hyper_on_broken_pipelines() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut accepted = 0;
    for _ in 0..Random::times(4_000) {
        let mut stream = Vec::new();
        for _ in 0..=random.below(3) {
            random.message(&mut stream);
        }
        for _ in 0..=random.below(3) {
            let at = random.below(stream.len());
            stream[at] = random.of(b"\r\n :;,0aCcTt\t\x00\x80");
        }
        accepted += usize::from(compare(&random.split(&stream)));
    }
    let some = Random::times(400)..Random::times(3_600);
    assert!(some.contains(&accepted), "{accepted} of {}", Random::times(4_000));
}
