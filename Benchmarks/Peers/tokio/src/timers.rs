//! A timer of Tokio is a future, `Sleep`: the first poll puts it into the wheel, its drop takes it out.
//!
//! cancel and reset poll them by hand, outside of a task, so that no budget of a task ends a poll early and nothing
//! but the timers is measured. What they register is a waker with a count of references, as a task's is.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::time::{sleep_until, Instant, Sleep};

use crate::{check, craw, fail, Sample};

/// Timers and no descriptors: beside an I/O driver, each timer that is due before the loop means to wake would also
/// write to the loop's eventfd, and where the loop has not slept yet that is all of them.
pub fn timer_loop() -> Runtime {
    check("runtime", Builder::new_current_thread().enable_time().build())
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

pub fn nobody() -> Waker {
    Waker::from(Arc::new(Nobody))
}

pub fn schedule(timer: Pin<&mut Sleep>, waker: &Waker) {
    if timer.poll(&mut Context::from_waker(waker)).is_ready() {
        fail("a timer fired before its deadline");
    }
}

/// Each timer has a place that is made before, as it has in the future of the task that waits for it.
pub fn cancel(live: u64, shuffled: bool, operations: u64) -> Sample {
    let count = live.min(operations) as usize;
    craw::pin(craw::cpus()[0]);
    let runtime = timer_loop();
    let _entered = runtime.enter();
    let waker = nobody();
    let mut random = craw::Random(1);
    let mut places: Vec<Pin<Box<Option<Sleep>>>> = (0..count).map(|_| Box::pin(None)).collect();
    let order = craw::order(count, shuffled);
    let rounds = (operations / count as u64).max(1);
    let start = craw::now();
    for _ in 0..rounds {
        let base = Instant::now();
        for place in &mut places {
            place.set(Some(sleep_until(base + random.delay())));
            if let Some(timer) = place.as_mut().as_pin_mut() {
                schedule(timer, &waker);
            }
        }
        for &index in &order {
            places[index as usize].set(None);
        }
    }
    Sample::new(rounds * count as u64, craw::now() - start)
}

pub fn reset(count: usize, operations: u64) -> Sample {
    craw::pin(craw::cpus()[0]);
    let runtime = timer_loop();
    let _entered = runtime.enter();
    let waker = nobody();
    let mut random = craw::Random(1);
    let base = Instant::now();
    let mut timers: Vec<Pin<Box<Sleep>>> = (0..count)
        .map(|_| {
            let mut timer = Box::pin(sleep_until(base + random.delay()));
            schedule(timer.as_mut(), &waker);
            timer
        })
        .collect();
    let start = craw::now();
    let base = Instant::now();
    for _ in 0..operations {
        let timer = random.below(count as u64) as usize;
        timers[timer].as_mut().reset(base + random.delay());
    }
    Sample::new(operations, craw::now() - start)
}

struct Fired {
    count: AtomicU64,
    limit: u64,
    last: Notify,
}

/// A task for each timer.
pub fn fire(operations: u64) -> Sample {
    craw::pin(craw::cpus()[0]);
    let fired = Arc::new(Fired { count: AtomicU64::new(0), limit: operations, last: Notify::new() });
    timer_loop().block_on(async {
        let (start, cpu, base) = (craw::now(), craw::thread_cpu(), Instant::now());
        let due = |index| base + Duration::from_millis(10) + Duration::from_nanos(index * 1_000_000_000 / operations);
        for index in 0..operations {
            let (due, fired) = (due(index), fired.clone());
            tokio::spawn(async move {
                sleep_until(due).await;
                if fired.count.fetch_add(1, Relaxed) + 1 == fired.limit {
                    fired.last.notify_one();
                }
            });
        }
        fired.last.notified().await;
        let cpu = craw::thread_cpu() - cpu;
        if Instant::now() < due(operations - 1) {
            fail("a timer fired before its deadline");
        }
        Sample::new(operations, cpu).with("wall_ms", (craw::now() - start) / 1_000_000)
    })
}
