//! Work that one thread hands to another: an unbounded channel to a task of the other's loop.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Barrier};
use std::thread;

use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::task::yield_now;

use crate::{check, craw, event_loop, fail, join, Sample};

/// The number of tasks of one sender that have run, on a cache line of its own: the receiver tells the sender.
#[repr(align(128))]
#[derive(Default)]
struct Progress(AtomicU64);

/// What the tasks of one sender have come to.
#[derive(Default)]
struct Lane {
    ran: u64,
    sum: u64,
    progress: Arc<Progress>,
}

impl Lane {
    fn run(&mut self, number: u64) {
        self.sum += number;
        self.ran += 1;
        if self.ran % 256 == 0 {
            self.progress.0.store(self.ran, Release);
        }
    }

    fn verify(&self, tasks: u64) {
        if self.ran != tasks || self.sum != tasks * (tasks - 1) / 2 {
            fail(format!("{} tasks of {tasks} ran, their sum is {}", self.ran, self.sum));
        }
    }
}

/// A closure that captures, as `post` of other loops takes one. It is given what the receiver's thread alone may touch.
type Task = Box<dyn FnOnce(&mut [Lane]) + Send>;

struct Poster {
    lane: usize,
    sender: UnboundedSender<Task>,
    progress: Arc<Progress>,
    window: u64,
    posted: u64,
    /// The progress when it was last read.
    known: u64,
}

impl Poster {
    fn new(lane: usize, lanes: &[Lane], sender: &UnboundedSender<Task>, window: u64) -> Poster {
        let (sender, progress) = (sender.clone(), lanes[lane].progress.clone());
        Poster { lane, sender, progress, window, posted: 0, known: 0 }
    }

    fn may_post(&mut self, tasks: u64) -> bool {
        if self.posted + tasks - self.known <= self.window {
            return true;
        }
        self.known = self.progress.0.load(Acquire);
        self.posted + tasks - self.known <= self.window
    }

    fn post(&mut self) {
        let (lane, number) = (self.lane, self.posted);
        let task: Task = Box::new(move |lanes| lanes[lane].run(number));
        check("send", self.sender.send(task));
        self.posted += 1;
    }
}

/// Runs so many tasks; the time is that of the last one's end.
async fn run_tasks(mut receiver: UnboundedReceiver<Task>, mut lanes: Vec<Lane>, tasks: u64) -> (Vec<Lane>, u64) {
    for _ in 0..tasks {
        let task = receiver.recv().await.unwrap_or_else(|| fail("the channel was closed"));
        task(&mut lanes);
    }
    (lanes, craw::now())
}

pub fn to_one(posters: usize, window: u64, operations: u64) -> Sample {
    let cpus = craw::cpus();
    let share = (operations / posters as u64).max(1);
    let tasks = share * posters as u64;
    let lanes: Vec<Lane> = (0..posters).map(|_| Lane::default()).collect();
    let (sender, receiver) = unbounded_channel();
    let barrier = Arc::new(Barrier::new(posters + 1));
    let threads: Vec<_> = (0..posters)
        .map(|index| {
            let mut poster = Poster::new(index, &lanes, &sender, window);
            let (cpu, barrier) = (cpus[(index + 1) % 2], barrier.clone());
            thread::spawn(move || {
                craw::pin(cpu);
                barrier.wait();
                let start = craw::now();
                for _ in 0..share {
                    while !poster.may_post(1) {
                        // Several posters share a CPU with the receiver.
                        if posters > 1 {
                            thread::yield_now()
                        } else {
                            std::hint::spin_loop()
                        }
                    }
                    poster.post();
                }
                start
            })
        })
        .collect();
    craw::pin(cpus[0]);
    let runtime = event_loop();
    let receiver = runtime.spawn(run_tasks(receiver, lanes, tasks));
    barrier.wait();
    let (lanes, end) = check("join", runtime.block_on(receiver));
    lanes.iter().for_each(|lane| lane.verify(share));
    let start = threads.into_iter().map(join).min().unwrap_or(end);
    Sample::new(tasks, end - start)
}

/// Posts a burst in each turn of the loop, if the window has room for it.
async fn post_bursts(mut poster: Poster, tasks: u64) {
    while poster.posted < tasks {
        let burst = (tasks - poster.posted).min(64);
        if poster.may_post(burst) {
            (0..burst).for_each(|_| poster.post());
        }
        yield_now().await;
    }
}

pub fn all_to_all(operations: u64) -> Sample {
    let (cpus, half, window) = (craw::cpus(), (operations / 2).max(1), 100_000);
    let (to_a, at_a) = unbounded_channel();
    let (to_b, at_b) = unbounded_channel();
    let (lane_a, lane_b) = (vec![Lane::default()], vec![Lane::default()]);
    let (post_a, post_b) = (Poster::new(0, &lane_b, &to_b, window), Poster::new(0, &lane_a, &to_a, window));
    let barrier = Arc::new(Barrier::new(2));
    let exchange = |cpu, poster, receiver, lanes| {
        let barrier = barrier.clone();
        thread::spawn(move || {
            craw::pin(cpu);
            let runtime = event_loop();
            barrier.wait();
            let start = craw::now();
            let poster = runtime.spawn(post_bursts(poster, half));
            let receiver = runtime.spawn(run_tasks(receiver, lanes, half));
            check("join", runtime.block_on(poster));
            let (lanes, end) = check("join", runtime.block_on(receiver));
            lanes[0].verify(half);
            (start, end)
        })
    };
    let threads = [exchange(cpus[0], post_a, at_a, lane_a), exchange(cpus[1], post_b, at_b, lane_b)];
    let [a, b] = threads.map(join);
    Sample::new(2 * half, a.1.max(b.1) - a.0.min(b.0))
}

/// A number goes to and fro between two threads, `cpus` says on which of A and B. The future of block_on is the
/// quickest to wake: there is no queue of tasks on its way.
pub fn ping_pong(cpus: [usize; 2], rounds: u64) -> Sample {
    let [cpu_1, cpu_2] = cpus.map(|index| craw::cpus()[index]);
    let (to_1, mut at_1) = unbounded_channel();
    let (to_2, mut at_2) = unbounded_channel();
    let barrier = Arc::new(Barrier::new(2));
    let ready = barrier.clone();
    let second = thread::spawn(move || {
        craw::pin(cpu_2);
        let runtime = event_loop();
        ready.wait();
        runtime.block_on(async {
            while let Some(number) = at_2.recv().await {
                check("send", to_1.send(number));
            }
        })
    });
    craw::pin(cpu_1);
    let runtime = event_loop();
    barrier.wait();
    let sample = runtime.block_on(async {
        let start = craw::now();
        for number in 0..rounds {
            check("send", to_2.send(number));
            if at_1.recv().await != Some(number) {
                fail("another number came back");
            }
        }
        Sample::new(rounds, craw::now() - start)
    });
    drop(to_2);
    join(second);
    sample
}
