//! Doubly linked lists through the entries of a slab: O(1) insertion and removal by index.

use slab::Slab;

/// The index that means "none".
pub(crate) const NIL: u32 = u32::MAX;

/// An entry's neighbours in one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) prev: u32,
    pub(crate) next: u32,
}

impl Link {
    pub(crate) const UNLINKED: Link = Link { prev: NIL, next: NIL };
}

/// An entry that can be in the list `LIST`; one type can be in several lists at once.
pub(crate) trait Linked<const LIST: u8> {
    fn link(&self) -> &Link;
    fn link_mut(&mut self) -> &mut Link;
}

/// The ends of a list whose links live in the entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) len: u32,
}

impl List {
    pub(crate) const EMPTY: List = List { head: NIL, tail: NIL, len: 0 };

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back<const LIST: u8, T: Linked<LIST>>(&mut self, entries: &mut Slab<T>, index: u32) {
        *entries[index as usize].link_mut() = self.append(entries, index);
    }

    /// As [`push_back`](List::push_back), but the link is left to the caller, who stores it in the entry
    /// with whatever else changes there.
    #[inline]
    pub(crate) fn append<const LIST: u8, T: Linked<LIST>>(
        &mut self,
        entries: &mut Slab<T>,
        index: u32,
    ) -> Link {
        let prev = self.tail;
        match prev {
            NIL => self.head = index,
            _ => entries[prev as usize].link_mut().next = index,
        }
        self.tail = index;
        self.len += 1;
        Link { prev, next: NIL }
    }

    /// Inserts before `next`; at the end where that is none.
    pub(crate) fn insert_before<const LIST: u8, T: Linked<LIST>>(
        &mut self,
        entries: &mut Slab<T>,
        index: u32,
        next: u32,
    ) {
        if next == NIL {
            return self.push_back(entries, index);
        }
        let prev = entries[next as usize].link().prev;
        *entries[index as usize].link_mut() = Link { prev, next };
        entries[next as usize].link_mut().prev = index;
        match prev {
            NIL => self.head = index,
            _ => entries[prev as usize].link_mut().next = index,
        }
        self.len += 1;
    }

    pub(crate) fn remove<const LIST: u8, T: Linked<LIST>>(&mut self, entries: &mut Slab<T>, index: u32) {
        let link = std::mem::replace(entries[index as usize].link_mut(), Link::UNLINKED);
        self.cut(entries, link);
    }

    /// As [`remove`](List::remove), of an entry from which the caller has taken its link.
    #[inline]
    pub(crate) fn cut<const LIST: u8, T: Linked<LIST>>(&mut self, entries: &mut Slab<T>, link: Link) {
        let Link { prev, next } = link;
        match prev {
            NIL => self.head = next,
            _ => entries[prev as usize].link_mut().next = next,
        }
        match next {
            NIL => self.tail = prev,
            _ => entries[next as usize].link_mut().prev = prev,
        }
        self.len -= 1;
    }
}
