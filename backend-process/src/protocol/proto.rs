//! As much of protocol buffers as the Bazel worker protocol needs.

/// One field of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A type of which nothing is needed.
    Other,
}

/// Reads a number; `None` if the bytes end before it does, `Some(None)` if it is longer than one may be.
pub(super) fn varint(bytes: &[u8]) -> Option<Option<(u64, &[u8])>> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(Some((value, &bytes[index + 1..])));
        }
    }
    if bytes.len() < 10 { None } else { Some(None) }
}

/// The next field: its number, its value, and what follows.
pub(super) fn field(bytes: &[u8]) -> Option<(u64, Field<'_>, &[u8])> {
    let (tag, rest) = varint(bytes)??;
    let (value, rest) = match tag & 7 {
        0 => {
            let (value, rest) = varint(rest)??;
            (Field::Varint(value), rest)
        }
        1 => (Field::Other, rest.get(8..)?),
        2 => {
            let (len, rest) = varint(rest)??;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            (Field::Bytes(bytes), rest)
        }
        5 => (Field::Other, rest.get(4..)?),
        _ => return None,
    };
    Some((tag >> 3, value, rest))
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Fields with the default value are left out, as everywhere in this format.
pub(super) fn put_number(number: u64, value: i32, out: &mut Vec<u8>) {
    if value != 0 {
        put_varint(number << 3, out);
        // Negative numbers are sign-extended to 64 bits.
        put_varint(i64::from(value) as u64, out);
    }
}

pub(super) fn put_bytes(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn put_text(number: u64, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(number, text.as_bytes(), out);
    }
}
