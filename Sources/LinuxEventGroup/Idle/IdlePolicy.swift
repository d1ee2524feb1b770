internal import LinuxEvent

/// What a shard does while it has nothing to do. Contract G12.
///
/// A shard that sleeps costs nothing, and has to be woken, which takes some ten microseconds where another processor
/// does it. A shard that looks for work all the time finds it within a fraction of one, and uses up its CPU.
///
/// Shards look only where it hurts nobody: `Plan.allowsSpinning` says so, with the reason. Elsewhere they sleep,
/// whatever the policy.
public struct IdlePolicy: Hashable, Sendable, CustomStringConvertible {
    enum Kind: Hashable { case sleep, adaptive, poll }

    let kind: Kind
    /// The longest look, in nanoseconds.
    let limit: UInt64
    /// How many shards may look at a time; nil for no bound.
    let shards: Int?

    /// It sleeps at once. An idle group uses no CPU time.
    public static let sleep = IdlePolicy(kind: .sleep, limit: 0, shards: nil)

    /// It looks for work for a while before it sleeps, if that has paid of late.
    public static let adaptive = adaptive()

    /// It looks for work for a while before it sleeps, if that has paid of late: a shard learns from how long its
    /// pauses are. One whose work comes seldom, or whose CPU others want, sleeps at once.
    ///
    /// - Parameters:
    ///   - limit: the longest look. It is shorter where a wake costs less than that, as measured.
    ///   - shards: how many of the group's shards may look at the same time; nil lets all.
    public static func adaptive(atMost limit: Duration = .microseconds(50), shards: Int? = nil) -> IdlePolicy {
        let nanoseconds = UInt64(min(max(limit.nanoseconds, 0), 1_000_000_000))
        return IdlePolicy(kind: .adaptive, limit: nanoseconds, shards: shards.map { max(0, $0) })
    }

    /// It never sleeps, and uses all of its CPU.
    public static let poll = IdlePolicy(kind: .poll, limit: .max, shards: nil)

    public var description: String {
        switch kind {
        case .sleep: "sleep"
        case .poll: "poll"
        case .adaptive:
            "adaptive, at most \(Double(limit) / 1_000) µs" + (shards.map { ", \($0) shards at a time" } ?? "")
        }
    }
}
