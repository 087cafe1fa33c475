//! [`Call`]: one request, and what can be said before its answer.

use std::io;
use std::ops::Deref;
use std::time::Duration;

use crate::channel::Channel;
use crate::wire::Kind;

/// One request. Dereferences to its bytes.
pub struct Call<'a> {
    pub(crate) id: u32,
    pub(crate) payload: &'a [u8],
    pub(crate) channel: &'a mut Channel,
    pub(crate) retire: &'a mut bool,
}

impl Call<'_> {
    /// The call's id, which no other call of this worker has had.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends a part of the answer at once.
    ///
    /// # Errors
    ///
    /// When the pool is gone.
    pub fn part(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.channel.push(self.id, Kind::Part, bytes)?;
        self.channel.flush()
    }

    /// Asks for more time: the call's deadline becomes `from_now`, as far as the caller allows it.
    ///
    /// # Errors
    ///
    /// When the pool is gone.
    pub fn extend_deadline(&mut self, from_now: Duration) -> io::Result<()> {
        let millis = u32::try_from(from_now.as_millis()).unwrap_or(u32::MAX);
        self.channel.push(self.id, Kind::Extend, &millis.to_le_bytes())?;
        self.channel.flush()
    }

    /// Asks to be retired after this call.
    pub fn retire(&mut self) {
        *self.retire = true;
    }
}

impl Deref for Call<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.payload
    }
}
