// Posting work across shards: a token goes round and round, each hop a task posted to the next shard.

import ExampleSupport
import LinuxEvent
import LinuxEventGroup

let arguments = Arguments(
    "posting", about: "a token travels around the shards of a group",
    options: [
        .value("threads", "N", "shards (default: one for each usable CPU)"),
        .value("rounds", "N", "times that the token goes around (default: 10000)"),
    ])
let threads = arguments.integer("threads", in: 1...1_024)
let rounds = arguments.integer("rounds", in: 1...1_000_000_000) ?? 10_000

/// Runs on the shard that has the token, and posts the rest of the way to the next one.
@Sendable func pass(on shard: Shard, hopsLeft: Int) {
    guard hopsLeft > 0 else { return shard.group.requestStop() }
    let next = (shard.index + 1) % shard.group.count
    let result = shard.group.post(to: next) { shard in pass(on: shard, hopsLeft: hopsLeft - 1) }
    // A post is never lost in silence: it runs exactly once, or the poster is told and has the task back.
    if !result.isPosted { complain("shard \(next) takes no more tasks") }
}

do {
    let group = try LoopGroup(threads: threads)
    say("\(group.plan)")

    let hops = rounds * group.count
    let start = Instant.now
    group.post(to: 0) { shard in pass(on: shard, hopsLeft: hops) }
    let report = try group.wait()

    let seconds = start.duration(to: .now).seconds
    say("\(hops) hops in \(seconds.fixed(3)) s, \((seconds * 1e6 / Double(hops)).fixed(2)) µs each")
    say("\(report)")
} catch {
    fail("posting", "\(error)")
}
