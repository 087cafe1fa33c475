//! Emptying directories, but for what was there from the beginning.

use alloc::vec::Vec;

use crate::sys::{self, AT_REMOVEDIR, CStr, Errno, Fd, O_DIRECTORY, O_NOFOLLOW};
use crate::wire::Reader;

/// How deep we follow. Deeper trees cannot be wiped, and the container is thrown away.
const MAX_DEPTH: usize = 256;
const ELOOP: Errno = 40;

pub struct Order<'a> {
    directories: Vec<&'a [u8]>,
    keep: Vec<&'a [u8]>,
}

impl<'a> Order<'a> {
    pub fn read(payload: &'a [u8]) -> Option<Order<'a>> {
        let mut reader = Reader(payload);
        Some(Order { directories: reader.list()?, keep: reader.list()? })
    }

    pub fn carry_out(&self) -> Result<(), Errno> {
        for path in &self.directories {
            match sys::open(path, O_DIRECTORY, 0) {
                Ok(dir) => self.empty(&dir, &mut path.to_vec(), 0)?,
                Err(sys::ENOENT) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn empty(&self, dir: &Fd, path: &mut Vec<u8>, depth: usize) -> Result<(), Errno> {
        if depth > MAX_DEPTH {
            return Err(ELOOP);
        }
        let home = sys::fstat(dir.0)?.dev;
        // Names first: removing while reading skips entries on some file systems.
        let mut names = Vec::new();
        sys::each_name(dir.0, &mut |name| {
            names.push(name.to_vec());
            Ok(())
        })?;
        for name in names {
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(&name);
            self.remove(dir, &CStr::new(&name), path, home, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn remove(
        &self,
        dir: &Fd,
        name: &CStr,
        path: &mut Vec<u8>,
        home: u64,
        depth: usize,
    ) -> Result<(), Errno> {
        let stat = sys::lstat_at(dir.0, name)?;
        if stat.dev != home {
            return Ok(()); // Another mount: it is emptied when it is in the list itself.
        }
        let kept = self.keep.contains(&path.as_slice());
        if !stat.is_dir() {
            return if kept { Ok(()) } else { sys::unlink_at(dir.0, name, 0) };
        }
        let below = sys::open_at(dir.0 as usize, name, O_DIRECTORY | O_NOFOLLOW, 0)?;
        self.empty(&below, path, depth + 1)?;
        let holds_kept = || self.keep.iter().any(|k| k.starts_with(path) && k.get(path.len()) == Some(&b'/'));
        if kept || holds_kept() { Ok(()) } else { sys::unlink_at(dir.0, name, AT_REMOVEDIR) }
    }
}
