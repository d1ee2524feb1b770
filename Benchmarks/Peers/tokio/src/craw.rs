//! What the peers share, in C: clocks, CPUs, descriptors, and the load of the echo cases.

use std::ffi::c_void;
use std::fs::File;
use std::net::TcpListener;
use std::os::raw::{c_int, c_uint};
use std::os::unix::io::{AsRawFd, FromRawFd};
use std::slice;
use std::time::Duration;

use crate::{check, fail};

/// `struct craw_result`, field for field.
#[repr(C)]
#[derive(Default)]
pub struct Measured {
    pub operations: u64,
    pub nanoseconds: u64,
    turns: u64,
    wakes: u64,
    percentiles: [u64; 4],
}

extern "C" {
    fn craw_now() -> u64;
    fn craw_thread_cpu() -> u64;
    fn craw_resident() -> u64;
    fn craw_memory_settle();
    fn craw_random(state: *mut u64) -> u64;
    fn craw_deadline(state: *mut u64, now: u64) -> u64;
    fn craw_order(count: u64, order: c_uint) -> *mut u32;
    fn free(memory: *mut c_void);
    fn craw_pin(cpu: c_int) -> c_int;
    fn craw_allowed_cpus(cpus: *mut c_int, capacity: c_int) -> c_int;
    fn craw_raise_descriptor_limit(needed: c_int) -> c_int;
    fn craw_pipe(ends: *mut c_int) -> c_int;
    fn craw_eventfd(initial: c_uint) -> c_int;
    fn craw_listen(port: *mut c_int) -> c_int;
    fn craw_load_start(
        port: c_int,
        connections: c_int,
        pipeline: c_int,
        requests: u64,
        cpu: c_int,
        finished: c_int,
    ) -> *mut c_void;
    fn craw_load_finish(load: *mut c_void, result: *mut Measured, total: *mut u64) -> c_int;
}

/// The value of a call that answers -errno.
fn answer(what: &str, value: c_int) -> c_int {
    let error = std::io::Error::from_raw_os_error(-value);
    check(what, if value < 0 { Err(error) } else { Ok(value) })
}

pub fn now() -> u64 {
    unsafe { craw_now() }
}

/// CPU time of the calling thread.
pub fn thread_cpu() -> u64 {
    unsafe { craw_thread_cpu() }
}

pub fn resident() -> u64 {
    unsafe { craw_resident() }
}

/// The allocator gives back what it can.
pub fn memory_settle() {
    unsafe { craw_memory_settle() }
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        unsafe { craw_random(&mut self.0) % limit }
    }

    /// 1 to 60 seconds.
    pub fn delay(&mut self) -> Duration {
        Duration::from_nanos(unsafe { craw_deadline(&mut self.0, 0) })
    }
}

/// The order in which so many timers are cancelled.
pub fn order(count: usize, shuffled: bool) -> Vec<u32> {
    unsafe {
        let order = craw_order(count as u64, shuffled.into());
        if order.is_null() {
            fail("malloc");
        }
        let copy = slice::from_raw_parts(order, count).to_vec();
        free(order.cast());
        copy
    }
}

pub fn pin(cpu: c_int) {
    answer("sched_setaffinity", unsafe { craw_pin(cpu) });
}

/// CPU A and CPU B: the first and the last of those that this thread may use.
pub fn cpus() -> [c_int; 2] {
    let mut all = [0; 64];
    let count = unsafe { craw_allowed_cpus(all.as_mut_ptr(), all.len() as c_int) };
    let count = answer("sched_getaffinity", count) as usize;
    [all[0], all[count - 1]]
}

pub fn raise_descriptor_limit(needed: usize) {
    answer("RLIMIT_NOFILE", unsafe { craw_raise_descriptor_limit(needed as c_int) });
}

/// The read end and the write end.
pub fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    answer("pipe2", unsafe { craw_pipe(ends.as_mut_ptr()) });
    unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) }
}

pub fn eventfd(initial: u32) -> File {
    unsafe { File::from_raw_fd(answer("eventfd", craw_eventfd(initial))) }
}

pub fn listen() -> (TcpListener, c_int) {
    let mut port = 0;
    let listener = answer("listen", unsafe { craw_listen(&mut port) });
    (unsafe { TcpListener::from_raw_fd(listener) }, port)
}

pub struct Load(*mut c_void);

impl Load {
    pub fn start(
        port: c_int,
        connections: usize,
        pipeline: usize,
        requests: u64,
        cpu: c_int,
        finished: &impl AsRawFd,
    ) -> Load {
        let (connections, pipeline) = (connections as c_int, pipeline as c_int);
        let load = unsafe { craw_load_start(port, connections, pipeline, requests, cpu, finished.as_raw_fd()) };
        if load.is_null() {
            fail("craw_load_start");
        }
        Load(load)
    }

    /// What was measured, and how many requests there were with the warm-up.
    pub fn finish(self) -> (Measured, u64) {
        let (mut measured, mut total) = (Measured::default(), 0);
        answer("load", unsafe { craw_load_finish(self.0, &mut measured, &mut total) });
        (measured, total)
    }
}
