import CRaw
import Glibc
import NIOCore
import NIOPosix

/// 100 tokens in a ring of 1,000 pipes.
///
/// A channel's input is the read end of a pipe and its output the write end of the next one, so the handler is that of
/// an echo server. It reads one byte into a buffer of one byte, once each time that its pipe is readable: by NIO's own
/// sizes several tokens would go in one callback.
enum Ring {
    private static let pipes = 1_000
    private static let tokens = 100

    static func run(operations: Int) throws -> Sample {
        check("RLIMIT_NOFILE", craw_raise_descriptor_limit(4096))
        return try withLoops(on: CPUs.a) { loops in
            let loop = loops[0]
            let ends = (0..<pipes).map { _ in pipe() }
            let tally = Tally(limit: operations, done: loop.makePromise())
            let bootstrap = NIOPipeBootstrap(group: loop)
                .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 1))
                .channelOption(.maxMessagesPerRead, value: 1)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(Station(tally))
                    }
                }
            for index in 0..<pipes {
                _ = try bootstrap.takingOwnershipOfDescriptors(
                    input: ends[index].read, output: ends[(index + 1) % pipes].write
                ).wait()
            }
            // All tokens in one turn.
            let start = try loop.submit {
                for index in stride(from: 0, to: pipes, by: pipes / tokens) {
                    var byte: UInt8 = 0x74
                    guard write(ends[index].write, &byte, 1) == 1 else { fail("write") }
                }
                return craw_now()
            }.wait()
            let end = try tally.done.futureResult.wait()
            return Sample(end.callbacks, end.time - start)
        }
    }

    private static func pipe() -> (read: CInt, write: CInt) {
        var ends: [CInt] = [0, 0]
        check("pipe2", craw_pipe(&ends))
        return (ends[0], ends[1])
    }

    /// On the loop's thread only.
    private final class Tally: @unchecked Sendable {
        private var callbacks = 0
        private let limit: Int
        let done: EventLoopPromise<(callbacks: Int, time: UInt64)>

        init(limit: Int, done: EventLoopPromise<(callbacks: Int, time: UInt64)>) {
            self.limit = limit
            self.done = done
        }

        func count() {
            callbacks &+= 1
            if callbacks == limit { done.succeed((callbacks, craw_now())) }
        }
    }

    private final class Station: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let tally: Tally

        init(_ tally: Tally) { self.tally = tally }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            context.writeAndFlush(data, promise: nil)
            tally.count()
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { fail("dispatch.ring: \(error)") }
    }
}
