//! Short texts without allocation.

use core::ffi::CStr;

use poolyard_rt::sys::Errno;

/// A C string in a buffer of fixed size.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// The parts, one after the other; what does not fit is `EINVAL`.
    pub fn of(parts: &[&[u8]]) -> Result<Self, Errno> {
        let mut text = Self { bytes: [0; N], len: 0 };
        for part in parts {
            let end = text.len + part.len();
            // One byte stays for the NUL.
            if end >= N {
                return Err(Errno::INVAL);
            }
            text.bytes[text.len..end].copy_from_slice(part);
            text.len = end;
        }
        Ok(text)
    }

    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A number in decimal.
pub struct Decimal {
    bytes: [u8; 20],
    start: usize,
}

impl Decimal {
    pub fn of(mut number: u64) -> Self {
        let (mut bytes, mut start) = ([0; 20], 20);
        loop {
            start -= 1;
            bytes[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { bytes, start };
            }
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}
