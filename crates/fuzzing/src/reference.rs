//! A second reading of the WebSocket protocol, as plain as can be: all bytes at once, no care for speed. It says what the
//! edge's decoder has to say.

use bytes::Bytes;
use rowcast_edge::wire::Incoming;
use rowcast_protocol::CloseCode;

/// What a client said, and with which code it is closed, if it is.
pub type Heard = (Vec<Incoming>, Option<CloseCode>);

/// Fragments without a byte that a message may have.
const MAX_EMPTY_FRAGMENTS: usize = 16;

/// What is there of a message whose end is not, and how many of its fragments had no byte.
type Begun = Option<(Vec<u8>, usize)>;

/// Reads everything that a client sent.
pub fn hear(mut rest: &[u8], max_message: usize) -> Heard {
    let mut heard = Vec::new();
    let mut open: Begun = None;
    loop {
        match frame(&mut rest, &mut open, max_message) {
            Ok(Step::Said(incoming)) => heard.push(incoming),
            Ok(Step::Fragment) => {}
            Ok(Step::MoreIsNeeded) => return (heard, None),
            Err(code) => return (heard, Some(code)),
        }
    }
}

enum Step {
    Said(Incoming),
    Fragment,
    MoreIsNeeded,
}

fn frame(rest: &mut &[u8], open: &mut Begun, max_message: usize) -> Result<Step, CloseCode> {
    let [first, second, behind @ ..] = *rest else { return Ok(Step::MoreIsNeeded) };
    let (last, opcode, short) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
    let expected = match opcode {
        0 => open.is_some(),
        1 => open.is_none(),
        2 => true,
        8..=10 => last && short <= 125,
        _ => false,
    };
    if first & 0x70 != 0 || second & 0x80 == 0 || !expected {
        return Err(CloseCode::Protocol);
    }
    if opcode == 2 {
        return Err(CloseCode::Malformed);
    }
    let wide = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length, behind)) = behind.split_at_checked(wide) else { return Ok(Step::MoreIsNeeded) };
    let length = match wide {
        0 => u64::from(short),
        _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let begun = open.as_ref().map_or(0, |(bytes, _)| bytes.len()) as u64;
    if opcode < 8 && length.saturating_add(begun) > max_message as u64 {
        return Err(CloseCode::TooLarge);
    }
    let whole = usize::try_from(length).ok().and_then(|length| behind.split_at_checked(4 + length));
    let Some((masked, behind)) = whole else { return Ok(Step::MoreIsNeeded) };
    let (mask, masked) = masked.split_at(4);
    let payload: Vec<u8> = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    *rest = behind;
    meaning(last, opcode, payload, open)
}

fn meaning(last: bool, opcode: u8, payload: Vec<u8>, open: &mut Begun) -> Result<Step, CloseCode> {
    let said = match opcode {
        9 => Incoming::Ping(Bytes::from(payload)),
        10 => Incoming::Pong,
        8 => return closing(&payload).map(Step::Said),
        _ => {
            let (mut message, empty) = open.take().unwrap_or_default();
            let empty = empty + usize::from(payload.is_empty());
            if empty > MAX_EMPTY_FRAGMENTS {
                return Err(CloseCode::TooLarge);
            }
            message.extend(payload);
            if !last {
                *open = Some((message, empty));
                return Ok(Step::Fragment);
            }
            Incoming::Text(String::from_utf8(message).map_err(|_| CloseCode::NotUtf8)?)
        }
    };
    Ok(Step::Said(said))
}

/// A close's payload is empty, or a code that may be sent and a reason.
fn closing(payload: &[u8]) -> Result<Incoming, CloseCode> {
    let good = match payload {
        [] => true,
        [_] => false,
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let registered = (1000..=1014).contains(&code) && !(1004..=1006).contains(&code);
            (registered || (3000..5000).contains(&code)) && std::str::from_utf8(reason).is_ok()
        }
    };
    if good { Ok(Incoming::Close) } else { Err(CloseCode::Protocol) }
}
