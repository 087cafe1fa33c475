//! Who a program runs as: `name`, `uid`, with or without `:group`, as an image names its user.

use alloc::vec::Vec;

use crate::sys::{self, EINVAL, Errno};

#[derive(Default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: Option<Vec<u8>>,
}

/// No file of users is read beyond this.
const MAX: usize = 1 << 20;

pub fn find(text: &[u8]) -> Result<User, Errno> {
    if text.is_empty() || text == b"0" || text == b"root" {
        return Ok(User::default());
    }
    let (name, group) = match text.iter().position(|b| *b == b':') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut user = passwd(name)?;
    match group {
        Some(group) => user.gid = group_id(group)?,
        None => user.groups = supplementary(name),
    }
    Ok(user)
}

fn passwd(name: &[u8]) -> Result<User, Errno> {
    let number = number(name);
    for line in lines(&sys::slurp(b"/etc/passwd", MAX).unwrap_or_default()) {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        let [login, _, uid, gid, _, home, ..] = fields[..] else { continue };
        let (Some(uid), Some(gid)) = (self::number(uid), self::number(gid)) else { continue };
        if login == name || number == Some(uid) {
            return Ok(User { uid, gid, groups: Vec::new(), home: Some(home.to_vec()) });
        }
    }
    // A number needs no entry.
    let uid = number.ok_or(EINVAL)?;
    Ok(User { uid, ..User::default() })
}

fn group_id(name: &[u8]) -> Result<u32, Errno> {
    if let Some(gid) = number(name) {
        return Ok(gid);
    }
    let file = sys::slurp(b"/etc/group", MAX).unwrap_or_default();
    let found = lines(&file).find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        (fields.next()? == name).then(|| number(fields.nth(1)?)).flatten()
    });
    found.ok_or(EINVAL)
}

fn supplementary(name: &[u8]) -> Vec<u32> {
    let file = sys::slurp(b"/etc/group", MAX).unwrap_or_default();
    let member = |line: &[u8]| {
        let mut fields = line.split(|b| *b == b':');
        let gid = number(fields.nth(2)?)?;
        fields.next()?.split(|b| *b == b',').any(|m| m == name).then_some(gid)
    };
    lines(&file).filter_map(member).collect()
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|b| *b == b'\n')
}

fn number(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text).ok()?.parse().ok()
}
