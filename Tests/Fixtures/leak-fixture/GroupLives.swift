import Glibc
import LinuxEvent
import LinuxEventGroup

/// Groups under cross-traffic, stopped in every way.
enum GroupLives {
    static func all() throws {
        try busy(bound: nil)
        try busy(bound: 32)
        refused()
    }

    private static func busy(bound: Int?) throws {
        let ends = (0..<16).map { _ in TwoEnds() }
        let group = try LoopGroup(threads: 3, mailboxCapacity: bound) { shard in
            shard.loop.after(.microseconds(100)) { [load = Load()] _, _ in load.touch() }
            shard.post { [load = Load()] _ in load.touch() }
        }
        var handles: [GroupWatcher] = []
        for pair in ends {
            let result = group.watch(
                pair.near, data: Load(),
                read: { shard, fd, _, load in
                    load.touch()
                    drain(fd)
                    for index in 0..<shard.group.count {
                        shard.group.post(to: index) { [load = Load()] _ in load.touch() }
                    }
                })
            if case .accepted(let handle) = result { handles.append(handle) }
        }
        for _ in 0..<50 {
            for pair in ends { pair.write() }
            for shard in group.shards {
                for _ in 0..<20 { shard.post { [load = Load()] _ in load.touch() } }
            }
        }
        for handle in handles.prefix(8) { handle.cancel { [load = Load()] _ in load.touch() } }
        let report = try group.stop(deadline: .seconds(20))
        guard report.shards.allSatisfy({ $0.stage == .stopped }) else { fatalError("a group did not stop: \(report)") }
        group.post(to: 0) { [load = Load()] _ in load.touch() }
    }

    private static func refused() {
        struct Refusal: Error {}
        _ = try? LoopGroup(threads: 2) { [load = Load()] shard in
            load.touch()
            shard.group.post(to: 0) { [load = Load()] _ in load.touch() }
            if shard.index == 1 { throw Refusal() }
        }
        _ = try? LoopGroup(threads: 0) { [load = Load()] _ in load.touch() }
    }
}
