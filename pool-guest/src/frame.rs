//! Frames: one datagram, one message. The same source is compiled into the host and the guests.
//!
//! ```text
//! 0      4      6       8     12     16
//! | magic | kind | flags | seq | len  | body (len bytes) ...
//! ```
//!
//! All numbers are little-endian. A reply carries the sequence number of its request. Nothing here
//! allocates, and no input can make it panic: a short, long or foreign datagram is a [`BadFrame`].

use core::ffi::CStr;

/// The first four bytes of every frame.
pub const MAGIC: u32 = u32::from_le_bytes(*b"pyrd");

/// Bytes of a frame's header.
pub const HEADER: usize = 16;

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which message it is; each protocol numbers its own.
    pub kind: u16,
    /// Bits whose meaning the kind defines.
    pub flags: u16,
    /// Repeated by the reply.
    pub seq: u32,
}

/// A datagram that is not a frame, or a body that ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Splits a datagram into its header and its body.
///
/// # Errors
///
/// [`BadFrame`] if it is too short, does not start with [`MAGIC`], or its length field does not
/// say exactly how long it is.
pub fn parse(datagram: &[u8]) -> Result<(Header, Reader<'_>), BadFrame> {
    let mut head = Reader::new(datagram);
    if head.u32()? != MAGIC {
        return Err(BadFrame);
    }
    let header = Header { kind: head.u16()?, flags: head.u16()?, seq: head.u32()? };
    let len = head.u32()? as usize;
    if head.rest.len() != len {
        return Err(BadFrame);
    }
    Ok((header, Reader::new(head.rest)))
}

/// Takes values off the front of a body.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `body` from its start.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    ///
    /// [`BadFrame`] if fewer are left. The same holds for all readers below.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], BadFrame> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(BadFrame)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadFrame> {
        self.take(N)?.try_into().map_err(|_| BadFrame)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, BadFrame> {
        Ok(self.array::<1>()?[0])
    }

    /// The next 16 bits.
    pub fn u16(&mut self) -> Result<u16, BadFrame> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next 32 bits.
    pub fn u32(&mut self) -> Result<u32, BadFrame> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 32 bits, signed.
    pub fn i32(&mut self) -> Result<i32, BadFrame> {
        self.array().map(i32::from_le_bytes)
    }

    /// The next 64 bits.
    pub fn u64(&mut self) -> Result<u64, BadFrame> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes that are preceded by their length (32 bits).
    pub fn bytes(&mut self) -> Result<&'a [u8], BadFrame> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    /// Text that is preceded by its length and ends with its only NUL.
    pub fn cstr(&mut self) -> Result<&'a CStr, BadFrame> {
        CStr::from_bytes_with_nul(self.bytes()?).map_err(|_| BadFrame)
    }
}

/// Writes one frame into a buffer of fixed size.
///
/// What does not fit is remembered, and [`finish`](Writer::finish) then fails; the writers in
/// between need no checks.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    /// Bytes written; `None` once something did not fit.
    at: Option<usize>,
}

impl<'a> Writer<'a> {
    /// Starts a frame.
    pub fn new(buffer: &'a mut [u8], header: Header) -> Self {
        let mut writer = Self { buffer, at: Some(0) };
        writer.u32(MAGIC).u16(header.kind).u16(header.flags).u32(header.seq).u32(0);
        writer
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.at = self.at.and_then(|at| {
            let end = at.checked_add(bytes.len())?;
            self.buffer.get_mut(at..end)?.copy_from_slice(bytes);
            Some(end)
        });
        self
    }

    /// Appends zeros until the frame is a multiple of `unit` bytes long.
    pub fn align(&mut self, unit: usize) -> &mut Self {
        while self.at.is_some_and(|at| at % unit != 0) {
            self.u8(0);
        }
        self
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// Appends 16 bits.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends 32 bits.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends 32 bits, signed.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends 64 bits.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Appends bytes, preceded by their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32).raw(bytes)
    }

    /// Appends text, preceded by its length and followed by NUL.
    pub fn cstr(&mut self, text: &CStr) -> &mut Self {
        self.bytes(text.to_bytes_with_nul())
    }

    /// Fills in the length and gives the whole frame.
    ///
    /// # Errors
    ///
    /// [`BadFrame`] if the buffer was too small.
    pub fn finish(&mut self) -> Result<&[u8], BadFrame> {
        let end = self.at.ok_or(BadFrame)?;
        let body = (end - HEADER) as u32;
        self.buffer[12..HEADER].copy_from_slice(&body.to_le_bytes());
        Ok(&self.buffer[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Header = Header { kind: 7, flags: 1, seq: 99 };

    #[test]
    fn what_is_written_is_read_back() {
        let mut buffer = [0; 128];
        let mut writer = Writer::new(&mut buffer, HEAD);
        writer.u8(1).u16(2).u32(3).i32(-4).u64(5).bytes(b"six").cstr(c"seven");
        let (header, mut body) = parse(writer.finish().unwrap()).unwrap();
        assert_eq!(header, HEAD);
        assert_eq!((body.u8(), body.u16(), body.u32()), (Ok(1), Ok(2), Ok(3)));
        assert_eq!((body.i32(), body.u64()), (Ok(-4), Ok(5)));
        assert_eq!((body.bytes(), body.cstr()), (Ok(&b"six"[..]), Ok(c"seven")));
        assert!(body.rest().is_empty());
    }

    #[test]
    fn a_frame_that_does_not_fit_is_refused_at_the_end() {
        let mut buffer = [0; HEADER + 3];
        assert_eq!(Writer::new(&mut buffer, HEAD).u32(1).u8(1).finish(), Err(BadFrame));
        let mut tiny = [0; 3];
        assert_eq!(Writer::new(&mut tiny, HEAD).finish(), Err(BadFrame));
    }

    #[test]
    fn every_truncation_and_every_extension_is_a_bad_frame() {
        let mut buffer = [0; 64];
        let frame = Writer::new(&mut buffer, HEAD).bytes(b"body").finish().unwrap().to_vec();
        for len in 0..frame.len() {
            assert_eq!(parse(&frame[..len]).err(), Some(BadFrame), "cut to {len}");
        }
        let longer = [&frame[..], b"x"].concat();
        assert_eq!(parse(&longer).err(), Some(BadFrame));
    }

    #[test]
    fn lengths_that_lie_are_bad_frames() {
        let mut buffer = [0; 64];
        let frame = Writer::new(&mut buffer, HEAD).u32(u32::MAX).finish().unwrap().to_vec();
        let (_, mut body) = parse(&frame).unwrap();
        assert_eq!(body.bytes(), Err(BadFrame));
    }

    #[test]
    fn text_with_an_inner_nul_or_without_an_end_is_a_bad_frame() {
        for text in [&b"a\0b\0"[..], b"ab", b""] {
            let mut buffer = [0; 64];
            let frame = Writer::new(&mut buffer, HEAD).bytes(text).finish().unwrap().to_vec();
            let (_, mut body) = parse(&frame).unwrap();
            assert_eq!(body.cstr(), Err(BadFrame), "{text:?}");
        }
    }
}
