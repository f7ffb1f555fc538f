//! What a socket's bytes are taken for.

use rowcast_edge::wire::Decoder;

use crate::reference::{self, Heard};

/// The bounds that are tried; `edge.max_message` is larger, which inputs never reach.
const BOUNDS: [usize; 4] = [0, 16, 125, 300];

/// The first two bytes choose how the rest is cut and what a message may have. However it is cut, the same is heard, it
/// is what the reference hears, and no more is held than the bound and a header.
pub fn wire(data: &[u8]) {
    let [cut, bound, stream @ ..] = data else { return };
    let max_message = BOUNDS[usize::from(*bound) % BOUNDS.len()];
    let expected = reference::hear(stream, max_message);
    for size in [stream.len().max(1), usize::from(*cut).max(1), 1] {
        assert_eq!(decode(stream, size, max_message), expected, "in pieces of {size}");
    }
}

fn decode(stream: &[u8], size: usize, max_message: usize) -> Heard {
    let mut decoder = Decoder::new(max_message);
    let mut heard = Vec::new();
    for piece in stream.chunks(size) {
        decoder.feed(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(incoming)) => heard.push(incoming),
                Ok(None) => break,
                Err(code) => return (heard, Some(code)),
            }
        }
        // A control frame may have 125 bytes, whatever a message may have; a header has at most 14.
        let most = max_message + max_message.max(125) + 14;
        assert!(decoder.held() <= most, "{} bytes are held of {most}", decoder.held());
    }
    (heard, None)
}
