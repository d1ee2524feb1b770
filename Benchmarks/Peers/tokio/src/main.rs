//! The cases of the benchmark on Tokio, each on runtimes of one thread, as one would run a loop for each CPU.
//!
//! Left out: `dispatch.level` and `dispatch.single` (Tokio's readiness is edge-triggered, so an eventfd that nobody
//! reads is ready once), `churn.oneshot` (it has no one-shot watch) and `turn.*` (it runs no turn on request).

mod craw;
mod dispatch;
mod echo;
mod memory;
mod posts;
mod timers;

use std::fmt::Display;
use std::{env, process, thread};

use tokio::runtime::{Builder, Runtime};

/// What one run measured, over the work alone.
struct Sample {
    operations: u64,
    nanoseconds: u64,
    note: Option<(&'static str, u64)>,
}

impl Sample {
    fn new(operations: u64, nanoseconds: u64) -> Sample {
        Sample { operations, nanoseconds, note: None }
    }

    fn with(self, name: &'static str, value: u64) -> Sample {
        Sample { note: Some((name, value)), ..self }
    }
}

enum Run {
    /// A quarter of the operations goes before.
    Warm(fn(u64) -> Sample),
    Cold(fn(u64) -> Sample),
}

use Run::{Cold, Warm};

const CASES: &[(&str, Run)] = &[
    ("dispatch.ring", Warm(dispatch::ring)),
    ("churn.watch", Warm(dispatch::churn)),
    ("timers.cancel.1k", Warm(|operations| timers::cancel(1_000, false, operations))),
    ("timers.cancel.1m", Warm(|operations| timers::cancel(1_000_000, false, operations))),
    ("timers.shuffled.1m", Warm(|operations| timers::cancel(1_000_000, true, operations))),
    ("timers.reset.10k", Warm(|operations| timers::reset(10_000, operations))),
    ("timers.reset.1m", Warm(|operations| timers::reset(1_000_000, operations))),
    ("timers.fire.1m", Cold(timers::fire)),
    ("post.closure.1to1", Warm(|operations| posts::to_one(1, 100_000, operations))),
    ("post.closure.4to1", Warm(|operations| posts::to_one(4, 25_000, operations))),
    ("post.closure.alltoall", Warm(posts::all_to_all)),
    ("pingpong.asleep.onecpu", Warm(|operations| posts::ping_pong([0, 0], operations))),
    ("pingpong.asleep.twocpus", Warm(|operations| posts::ping_pong([0, 1], operations))),
    // The load has a warm-up of its own.
    ("echo.k64.p1", Cold(|requests| echo::echo(64, 1, requests))),
    ("echo.k64.p16", Cold(|requests| echo::echo(64, 16, requests))),
    ("echo.k1000.p1", Cold(|requests| echo::echo(1_000, 1, requests))),
    ("echo.k1000.p16", Cold(|requests| echo::echo(1_000, 16, requests))),
    ("memory.watcher", Cold(memory::watchers)),
    ("memory.timer", Cold(memory::timers)),
];

/// A benchmark that fails has nothing to tidy up, on whichever thread.
fn fail(what: impl Display) -> ! {
    eprintln!("peer-tokio: {what}");
    process::exit(1)
}

fn check<T, E: Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| fail(format!("{what}: {error}")))
}

fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|_| fail("a thread ended early"))
}

/// A loop that could watch descriptors and wait for timers, whether a case has any or not.
fn event_loop() -> Runtime {
    check("runtime", Builder::new_current_thread().enable_all().build())
}

fn measure(name: &str, operations: u64) -> Sample {
    let (_, run) = CASES.iter().find(|case| case.0 == name).unwrap_or_else(|| {
        eprintln!("peer-tokio: no case {name}");
        process::exit(64)
    });
    // Each run has a thread of its own, which may pin itself.
    let apart = |run: fn(u64) -> Sample, operations| join(thread::spawn(move || run(operations)));
    match *run {
        Cold(run) => apart(run, operations),
        Warm(run) => {
            apart(run, (operations / 4).max(1));
            apart(run, operations)
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--version"] => println!("tokio {}", env!("TOKIO_VERSION")),
        ["--list"] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        [name, operations] => {
            let sample = measure(name, check("OPERATIONS", operations.parse::<u64>()).max(1));
            print!("{} {}", sample.operations, sample.nanoseconds);
            sample.note.iter().for_each(|(name, value)| print!(" {name} {value}"));
            println!();
        }
        _ => {
            eprintln!("usage: peer-tokio --version | --list | SUITE.CASE OPERATIONS");
            process::exit(64)
        }
    }
}
