import CRaw
import NIOCore

/// A number goes to and fro between two loops, each with nothing else to do.
enum PingPong {
    static func run(on first: CInt, _ second: CInt, rounds: Int) throws -> Sample {
        try withLoops(on: first, second) { loops in
            let game = Game(loops[0], loops[1])
            let start = try loops[0].submit {
                let start = craw_now()
                game.serve(rounds)
                return start
            }.wait()
            return Sample(rounds, try game.end.futureResult.wait() - start)
        }
    }

    private final class Game: Sendable {
        private let first: any EventLoop
        private let second: any EventLoop
        let end: EventLoopPromise<UInt64>

        init(_ first: any EventLoop, _ second: any EventLoop) {
            self.first = first
            self.second = second
            end = first.makePromise()
        }

        /// On the first loop.
        func serve(_ left: Int) {
            if left == 0 {
                end.succeed(craw_now())
            } else {
                second.execute { self.answer(left) }
            }
        }

        private func answer(_ left: Int) { first.execute { self.serve(left - 1) } }
    }
}
