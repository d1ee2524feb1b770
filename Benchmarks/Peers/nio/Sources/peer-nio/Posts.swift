import CRaw
import Glibc
import NIOCore
import NIOPosix

/// Closures that one thread hands to another's loop, by execute.
enum Posts {
    /// The posters are threads without a loop: a pool of NIO's has them.
    static func toOne(posters: Int, window: Int, operations: Int) throws -> Sample {
        let share = max(operations / posters, 1)
        return try withLoops(on: CPUs.a) { loops in
            let loop = loops[0]
            let pool = NIOThreadPool(numberOfThreads: posters)
            pool.start()
            let lanes = (0..<posters).map { _ in Lane(on: loop, tasks: share) }
            let starts = lanes.enumerated().map { index, lane in
                pool.runIfActive(eventLoop: loop) {
                    check("sched_setaffinity", craw_pin(index.isMultiple(of: 2) ? CPUs.b : CPUs.a))
                    var poster = Poster(lane, window: window)
                    let start = craw_now()
                    for _ in 0..<share {
                        while !poster.mayPost(1) {
                            // Several posters share a CPU with the loop.
                            if posters > 1 { sched_yield() } else { craw_pause() }
                        }
                        poster.post()
                    }
                    return start
                }
            }
            let sample = try span(starts, lanes)
            try pool.syncShutdownGracefully()
            return sample
        }
    }

    static func allToAll(operations: Int) throws -> Sample {
        let half = max(operations / 2, 1)
        return try withLoops(on: CPUs.a, CPUs.b) { loops in
            let lanes = loops.map { Lane(on: $0, tasks: half) }
            let sides = zip(loops, lanes.reversed()).map { Side(on: $0, to: $1, tasks: half, window: 100_000) }
            return try span(sides.map { $0.start() }, lanes)
        }
    }

    /// From the first post to the end of the last task.
    private static func span(_ starts: [EventLoopFuture<UInt64>], _ lanes: [Lane]) throws -> Sample {
        let start = try starts.map { try $0.wait() }.reduce(.max, min)
        let end = try lanes.map { try $0.verified() }.reduce(0, max)
        return Sample(lanes.reduce(0) { $0 + $1.tasks }, end - start)
    }
}

/// What the tasks of one poster have come to. Of the loop's thread only, but for `progress`.
private final class Lane: @unchecked Sendable {
    let loop: any EventLoop
    let tasks: Int
    /// How many have run, for the poster.
    let progress: OpaquePointer
    private let end: EventLoopPromise<UInt64>
    private var ran = 0
    private var sum = 0

    init(on loop: any EventLoop, tasks: Int) {
        guard let progress = craw_counter_make() else { fail("aligned_alloc") }
        self.loop = loop
        self.tasks = tasks
        self.progress = progress
        end = loop.makePromise()
    }

    deinit { craw_counter_free(progress) }

    func run(_ number: Int) {
        sum &+= number
        ran &+= 1
        if ran & 255 == 0 { craw_counter_publish(progress, UInt64(ran)) }
        if ran == tasks { end.succeed(craw_now()) }
    }

    /// The time of the last task's end.
    func verified() throws -> UInt64 {
        let time = try end.futureResult.wait()
        let sum = try loop.submit { self.sum }.wait()
        guard sum == tasks * (tasks - 1) / 2 else { fail("the sum of the tasks is \(sum)") }
        return time
    }
}

private struct Poster {
    private let lane: Lane
    private let window: Int
    private(set) var posted = 0
    /// The progress when it was last read.
    private var known = 0

    init(_ lane: Lane, window: Int) {
        self.lane = lane
        self.window = window
    }

    mutating func mayPost(_ tasks: Int) -> Bool {
        if posted + tasks - known <= window { return true }
        known = Int(craw_counter_read(lane.progress))
        return posted + tasks - known <= window
    }

    /// The closure keeps no reference to the lane, whose count two threads would then write with each task.
    mutating func post() {
        let number = posted
        let lane = Unmanaged.passUnretained(self.lane)
        self.lane.loop.execute { lane._withUnsafeGuaranteedRef { $0.run(number) } }
        posted += 1
    }
}

/// Posts a burst in each turn of its loop, if the window has room for it. Of the loop's thread only.
private final class Side: @unchecked Sendable {
    private let loop: any EventLoop
    private let tasks: Int
    private var poster: Poster

    init(on loop: any EventLoop, to lane: Lane, tasks: Int, window: Int) {
        self.loop = loop
        self.tasks = tasks
        poster = Poster(lane, window: window)
    }

    /// The time of the first post.
    func start() -> EventLoopFuture<UInt64> {
        loop.submit {
            let start = craw_now()
            self.turn()
            return start
        }
    }

    private func turn() {
        let burst = min(tasks - poster.posted, 64)
        if poster.mayPost(burst) {
            for _ in 0..<burst { poster.post() }
        }
        if poster.posted < tasks { loop.execute { self.turn() } }
    }
}
