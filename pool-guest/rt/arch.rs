//! What differs between processors: the entry point and the system-call instruction.

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call poolyard_main", "ud2",);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "bl poolyard_main", "brk #1");

/// Makes a system call. Negative results are error numbers.
///
/// # Safety
///
/// The arguments must be what the call expects; pointers must be valid for what the kernel does
/// with them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
    let result: isize;
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            out("rcx") _, out("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call. Negative results are error numbers.
///
/// # Safety
///
/// The arguments must be what the call expects; pointers must be valid for what the kernel does
/// with them.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
    let result: isize;
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a[0] as isize => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    result
}

/// Clones a child that shares our memory, and lets it begin with `life` on a stack of its own; we sleep
/// until it executes a program or ends. `flags` come on top of what that takes. Its process id; negative
/// results are error numbers.
///
/// # Safety
///
/// The process must have one thread. `stack` must point past the end of enough memory that nobody uses, in
/// multiples of 16. What `life` does to our memory, it does to ours.
#[cfg(target_arch = "x86_64")]
pub unsafe fn vfork(flags: usize, stack: *mut u8, life: extern "C" fn(*mut ()) -> !, of: *mut ()) -> isize {
    let result: isize;
    // SAFETY: the child returns to nobody, and leaves our stack alone.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") 56isize => result,
            in("rdi") flags | CLONE_VM | CLONE_VFORK, in("rsi") stack, in("rdx") 0, in("r10") 0, in("r8") 0,
            in("r12") life, in("r13") of,
            out("rcx") _, out("r11") _,
        );
    }
    result
}

/// Clones a child that shares our memory, and lets it begin with `life` on a stack of its own; we sleep
/// until it executes a program or ends. `flags` come on top of what that takes. Its process id; negative
/// results are error numbers.
///
/// # Safety
///
/// The process must have one thread. `stack` must point past the end of enough memory that nobody uses, in
/// multiples of 16. What `life` does to our memory, it does to ours.
#[cfg(target_arch = "aarch64")]
pub unsafe fn vfork(flags: usize, stack: *mut u8, life: extern "C" fn(*mut ()) -> !, of: *mut ()) -> isize {
    let result: isize;
    // SAFETY: the child returns to nobody, and leaves our stack alone.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x10",
            "blr x9",
            "brk #1",
            "2:",
            in("x8") 220,
            inlateout("x0") (flags | CLONE_VM | CLONE_VFORK) as isize => result,
            in("x1") stack, in("x2") 0, in("x3") 0, in("x4") 0,
            in("x9") life, in("x10") of,
            out("x30") _,
        );
    }
    result
}

const CLONE_VM: usize = 0x100;
const CLONE_VFORK: usize = 0x4000;
