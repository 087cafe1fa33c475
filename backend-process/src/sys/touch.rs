//! Brings memory in before it is used.
//!
//! After a fork the first write to every page copies it, and the first look at every piece of a program
//! enters it into the new process's page tables, at a microsecond or two each. A process that waits for
//! something to do has the time for that, and one that has just been told what to do has not.

#![allow(unsafe_code, reason = "advice about memory")]

use std::fs;

/// The largest part of the memory that is written to of which copies are made: more is what the parts of a
/// program share, and what a fork is for.
const MAX_WRITABLE: usize = 256 * 1024;

/// So much is copied in all, however many libraries there are.
const ALL_WRITABLE: usize = 1 << 20;

/// So much of the program and its libraries is entered in all, so that no order waits for long.
const ALL_PROGRAM: usize = 16 << 20;

/// How much of the stack is used.
const STACK: usize = 16 * 1024;

/// Makes this process's own copies of what it is about to write to.
pub(crate) fn data() {
    touch(&maps(), false);
}

/// The same, and enters the program and its libraries.
pub(crate) fn everything() {
    touch(&maps(), true);
}

fn maps() -> String {
    fs::read_to_string("/proc/self/maps").unwrap_or_default()
}

fn touch(maps: &str, with_program: bool) {
    let here = std::ptr::from_ref(&maps).addr();
    let (mut writable, mut program) = (ALL_WRITABLE, if with_program { ALL_PROGRAM } else { 0 });
    for map in maps.lines().filter_map(Map::parse) {
        let is_stack = (map.start..map.end).contains(&here);
        let start = if is_stack { map.start.max((here - STACK) & !4095) } else { map.start };
        let len = map.end - start;
        let (advice, left) = match map.mode {
            "rw-p" if len <= MAX_WRITABLE => (libc::MADV_POPULATE_WRITE, &mut writable),
            "r-xp" => (libc::MADV_POPULATE_READ, &mut program),
            _ => continue,
        };
        let Some(rest) = left.checked_sub(len) else { continue };
        *left = rest;
        // SAFETY: does what an access would do that changes nothing. Where it cannot, or the kernel does
        // not know it (before 5.14), the access will.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(start), len, advice) };
    }
}

/// A line of the kernel's list of mappings.
struct Map<'a> {
    start: usize,
    end: usize,
    mode: &'a str,
}

impl<'a> Map<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some(Self { start: address(start)?, end: address(end)?, mode: rest.split(' ').next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_list_is_understood() {
        let line = "7fd3ed2a1000-7fd3ed2c7000 r-xp 00026000 fe:00 1311 /usr/lib/libc.so.6";
        let map = Map::parse(line).expect("a mapping");
        assert_eq!((map.start, map.end, map.mode), (0x7fd3_ed2a_1000, 0x7fd3_ed2c_7000, "r-xp"));
        let own = maps();
        assert!(!own.is_empty() && own.lines().all(|line| Map::parse(line).is_some()), "{own}");
        assert!(Map::parse("").is_none() && Map::parse("- rw-p").is_none());
    }

    #[test]
    fn nothing_changes_by_being_touched() {
        let before: Vec<u32> = (0..10_000).collect();
        everything();
        data();
        assert!(before.iter().copied().eq(0..10_000));
    }
}
