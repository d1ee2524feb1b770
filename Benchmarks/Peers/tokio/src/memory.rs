//! What a watcher and a timer take.

use std::fs::File;
use std::os::unix::io::AsRawFd;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::{sleep_until, Instant};

use crate::timers::{nobody, schedule, timer_loop};
use crate::{check, craw, event_loop, Sample};

const WARM_UP: usize = 100;

/// The growth of the resident set by `count` more of what `make` makes; all live to the end.
fn growth<T>(count: u64, mut make: impl FnMut(usize) -> T) -> Sample {
    let first: Vec<T> = (0..WARM_UP).map(&mut make).collect();
    craw::memory_settle();
    let before = craw::resident();
    let all: Vec<T> = (0..count as usize).map(|index| make(WARM_UP + index)).collect();
    let grown = craw::resident().saturating_sub(before);
    drop((first, all));
    Sample::new(count, grown)
}

pub fn watchers(operations: u64) -> Sample {
    let count = operations as usize + WARM_UP;
    craw::raise_descriptor_limit(count + 100);
    let descriptors: Vec<File> = (0..count).map(|_| craw::eventfd(0)).collect();
    let runtime = event_loop();
    let _entered = runtime.enter();
    growth(operations, |index| check("AsyncFd", AsyncFd::new(descriptors[index].as_raw_fd())))
}

pub fn timers(operations: u64) -> Sample {
    let runtime = timer_loop();
    let _entered = runtime.enter();
    let waker = nobody();
    let deadline = Instant::now() + Duration::from_secs(3_600);
    growth(operations, |_| {
        let mut timer = Box::pin(sleep_until(deadline));
        schedule(timer.as_mut(), &waker);
        timer
    })
}
