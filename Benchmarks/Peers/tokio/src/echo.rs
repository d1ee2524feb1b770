//! A TCP server that answers with what it got: a task for each connection, which reads and writes in turn.

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{check, craw, event_loop, Sample};

async fn serve(mut stream: TcpStream) {
    let mut buffer = vec![0; 16 * 1_024];
    loop {
        let count = check("read", stream.read(&mut buffer).await);
        if count == 0 {
            return;
        }
        check("write", stream.write_all(&buffer[..count]).await);
    }
}

async fn accept(listener: TcpListener) {
    loop {
        let (stream, _) = check("accept", listener.accept().await);
        check("TCP_NODELAY", stream.set_nodelay(true));
        tokio::spawn(serve(stream));
    }
}

pub fn echo(connections: usize, pipeline: usize, requests: u64) -> Sample {
    let cpus = craw::cpus();
    craw::pin(cpus[0]);
    craw::raise_descriptor_limit(4_096);
    let (listener, port) = craw::listen();
    event_loop().block_on(async {
        tokio::spawn(accept(check("listener", TcpListener::from_std(listener))));
        let finished = check("AsyncFd", AsyncFd::new(craw::eventfd(0)));
        let cpu = craw::thread_cpu();
        let load = craw::Load::start(port, connections, pipeline, requests, cpus[1], finished.get_ref());
        let _ = check("readable", finished.readable().await);
        let cpu = craw::thread_cpu() - cpu;
        let (measured, total) = load.finish();
        Sample::new(measured.operations, measured.nanoseconds).with("cpu_ns", cpu / total.max(1))
    })
}
