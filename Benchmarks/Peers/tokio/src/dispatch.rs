//! Descriptors: what lies between epoll and a task, and what it costs to watch and to stop watching.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::io::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::{check, craw, event_loop, Sample};

const PIPES: usize = 1_000;
const TOKENS: usize = 100;

struct Ring {
    callbacks: AtomicU64,
    limit: u64,
    done: Notify,
}

/// One task for each pipe.
///
/// Readiness is edge-triggered and kept until a read finds the pipe empty: so each wake ends with a read for nothing,
/// and where more bytes are there, or come meanwhile, one wake serves them all.
async fn pass_tokens(input: AsyncFd<File>, mut next: File, ring: Arc<Ring>) {
    loop {
        let mut ready = check("readable", input.readable().await);
        let mut byte = [0];
        if let Ok(read) = ready.try_io(|input| input.get_ref().read_exact(&mut byte)) {
            check("read", read);
            check("write", next.write_all(&byte));
            if ring.callbacks.fetch_add(1, Relaxed) + 1 == ring.limit {
                ring.done.notify_one();
            }
        }
    }
}

pub fn ring(operations: u64) -> Sample {
    craw::pin(craw::cpus()[0]);
    craw::raise_descriptor_limit(4_096);
    let (inputs, mut outputs): (Vec<File>, Vec<File>) = (0..PIPES).map(|_| craw::pipe()).unzip();
    for output in outputs.iter_mut().step_by(PIPES / TOKENS) {
        check("write", output.write_all(b"t"));
    }
    outputs.rotate_left(1);
    let ring = Arc::new(Ring { callbacks: AtomicU64::new(0), limit: operations, done: Notify::new() });
    event_loop().block_on(async {
        for (input, next) in inputs.into_iter().zip(outputs) {
            let input = check("AsyncFd", AsyncFd::new(input));
            tokio::spawn(pass_tokens(input, next, ring.clone()));
        }
        let start = craw::now();
        ring.done.notified().await;
        Sample::new(ring.callbacks.load(Relaxed), craw::now() - start)
    })
}

pub fn churn(operations: u64) -> Sample {
    craw::pin(craw::cpus()[0]);
    let descriptors: Vec<File> = (0..100).map(|_| craw::eventfd(0)).collect();
    let rounds = (operations / 100).max(1);
    let turns = async move {
        let mut watchers = Vec::with_capacity(descriptors.len());
        let start = craw::now();
        for _ in 0..rounds {
            watchers.extend(descriptors.iter().map(|file| check("AsyncFd", AsyncFd::new(file.as_raw_fd()))));
            yield_now().await;
            watchers.clear();
            yield_now().await;
        }
        Sample::new(rounds * 100, craw::now() - start)
    };
    // A task that yields is run again after one look at epoll; the future of block_on would ring the loop's eventfd
    // for that.
    let runtime = event_loop();
    check("join", runtime.block_on(runtime.spawn(turns)))
}
