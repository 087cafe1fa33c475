//! The least that running a program can cost: vfork, exec, wait. Nothing is isolated, bounded or captured.

#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use poolyard_benches::row::FLOOR;

use crate::measure::{Line, Operation};
use crate::ours;
use crate::programs::{Program, Programs};

pub(crate) fn lines<'a>(bench: &str, programs: &Programs, program: Program) -> Vec<Line<'a>> {
    let path = programs.path(program);
    let spawn: Operation<'a> = Box::new(move || {
        let started = Instant::now();
        let status = Command::new(&path).stdin(Stdio::null()).stdout(Stdio::null()).status();
        status.map(|_| started.elapsed()).map_err(|e| e.to_string())
    });
    vec![
        Line::new(bench, FLOOR, 50, vfork(programs, program)).note("vfork, exec, wait"),
        ours::after_a_cycle(bench, "floor_after_a_cycle", programs, vfork(programs, program))
            .note("the same, each after a whole cycle of ours, which empties the processor's caches"),
        Line::new(bench, "std::process", 50, spawn).note("posix_spawn, exec, wait"),
    ]
}

fn vfork<'a>(programs: &Programs, program: Program) -> Operation<'a> {
    let words = CString::new(programs.path(program).as_os_str().as_bytes()).expect("a path holds no NUL");
    Box::new(move || {
        let started = Instant::now();
        match run(&words) {
            0 => Ok(started.elapsed()),
            status => Err(format!("it ended with {status}")),
        }
    })
}

/// Runs the program and gives its raw status.
fn run(path: &CString) -> c_int {
    let mut stack = [0u128; 512];
    let mut status = 0;
    let argument = path.as_ptr().cast_mut().cast::<c_void>();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, and this thread is suspended until it has called execve or
    // ended, so stack and path outlive its use of them.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        let pid = libc::clone(execute, top, flags, argument);
        libc::waitpid(pid, &raw mut status, 0);
    }
    status
}

extern "C" fn execute(path: *mut c_void) -> c_int {
    let path = path.cast::<libc::c_char>().cast_const();
    let (argv, envp) = ([path, std::ptr::null()], [std::ptr::null()]);
    // SAFETY: the path is a C string, both lists end with null, and between vfork and exec one system call
    // is all that is made.
    unsafe { libc::execve(path, argv.as_ptr(), envp.as_ptr()) };
    127
}
