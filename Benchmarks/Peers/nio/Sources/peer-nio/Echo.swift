import CRaw
import NIOCore
import NIOPosix

/// NIO's own example of an echo server, and the options of the case.
enum Echo {
    static func run(connections: Int, pipeline: Int, requests: Int) throws -> Sample {
        check("RLIMIT_NOFILE", craw_raise_descriptor_limit(4096))
        return try withLoops(on: CPUs.a) { loops in
            let loop = loops[0]
            let server = try ServerBootstrap(group: loop)
                .serverChannelOption(.backlog, value: 1024)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 16 * 1024))
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(EchoHandler())
                    }
                }
                .bind(host: "127.0.0.1", port: 0).wait()
            guard let port = server.localAddress?.port else { fail("the server has no port") }
            let before = try loop.submit { craw_thread_cpu() }.wait()
            guard
                let load = craw_load_start(
                    CInt(port), CInt(connections), CInt(pipeline), UInt64(requests), CPUs.b, -1)
            else { fail("craw_load_start") }
            var result = craw_result()
            var total: UInt64 = 0
            check("load", craw_load_finish(load, &result, &total))
            let after = try loop.submit { craw_thread_cpu() }.wait()
            try server.close().wait()
            var sample = Sample(Int(result.operations), result.nanoseconds)
            sample.note = ("cpu_ns", (after - before) / max(total, 1))
            return sample
        }
    }

    private final class EchoHandler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        func channelRead(context: ChannelHandlerContext, data: NIOAny) { context.write(data, promise: nil) }

        func channelReadComplete(context: ChannelHandlerContext) { context.flush() }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { fail("echo: \(error)") }
    }
}
