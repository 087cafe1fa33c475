//! Memory: the runtime of guest programs has none, and the agent holds lists of unknown length.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;

use crate::sys;

/// Size classes by powers of two from 16 bytes to 2 MiB, each with a list of free blocks; larger
/// ones come from the kernel and are never given back (there are none in practice).
struct Heap(UnsafeCell<State>);

struct State {
    free: [*mut u8; CLASSES],
    next: usize,
    end: usize,
}

const CLASSES: usize = 18;
const REGION: usize = 1 << 20;

// SAFETY: the agent has one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(State { free: [core::ptr::null_mut(); CLASSES], next: 0, end: 0 }));

fn class(layout: Layout) -> usize {
    let size = layout.size().max(layout.align()).max(16);
    size.next_power_of_two().trailing_zeros() as usize - 4
}

fn map(size: usize) -> *mut u8 {
    // SAFETY: fresh private memory; read and write, private and anonymous.
    match unsafe { sys::sys(sys::nr::MMAP, &[0, size, 3, 0x22, usize::MAX, 0]) } {
        Ok(address) => address as *mut u8,
        Err(_) => core::ptr::null_mut(),
    }
}

// SAFETY: blocks are powers of two, so aligned to their size; each is in one hand or one list.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(layout);
        if class >= CLASSES {
            return map(layout.size());
        }
        // SAFETY: one thread, and no reference outlives this call.
        let state = unsafe { &mut *self.0.get() };
        let head = state.free[class];
        if !head.is_null() {
            // SAFETY: a free block begins with a pointer to the next one.
            state.free[class] = unsafe { *head.cast::<*mut u8>() };
            return head;
        }
        state.fresh(16 << class)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let class = class(layout);
        if class >= CLASSES {
            return;
        }
        // SAFETY: as above; the block is ours again and large enough for a pointer.
        unsafe {
            let state = &mut *self.0.get();
            *block.cast::<*mut u8>() = state.free[class];
            state.free[class] = block;
        }
    }
}

impl State {
    fn fresh(&mut self, size: usize) -> *mut u8 {
        if size >= REGION {
            return map(size);
        }
        let at = (self.next + size - 1) & !(size - 1);
        if self.next != 0 && at + size <= self.end {
            self.next = at + size;
            return at as *mut u8;
        }
        let region = map(REGION) as usize;
        if region == 0 {
            return core::ptr::null_mut();
        }
        self.end = region + REGION;
        let at = (region + size - 1) & !(size - 1);
        self.next = at + size;
        at as *mut u8
    }
}

/// The precompiled `alloc` refers to these; with `panic=abort` nobody calls them.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    sys::exit(70)
}
