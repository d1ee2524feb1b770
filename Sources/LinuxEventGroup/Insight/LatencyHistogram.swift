/// How often what took how long: in steps of a quarter of each power of two, so that a time is known to 25 %. Times of
/// 36 minutes and more share the last step. Contract G10.
public struct LatencyHistogram: Hashable, Sendable, CustomStringConvertible {
    /// How many times fell into each step.
    let counts: [UInt64]

    init(counts: [UInt64]) { self.counts = counts }

    /// How many times were taken down.
    public var count: UInt64 { counts.reduce(0, +) }

    /// The time that this share of all did not exceed, as the upper end of its step; nil if there is none.
    ///
    /// - Parameter share: from 0 to 1; 0.99 for the 99th percentile.
    public func quantile(_ share: Double) -> Duration? { nanoseconds(share).map { .nanoseconds(Int64($0)) } }

    private func nanoseconds(_ share: Double) -> UInt64? {
        let count = self.count
        guard count > 0 else { return nil }
        let rank = max(1, UInt64((Double(count) * min(max(share, 0), 1)).rounded(.up)))
        var seen: UInt64 = 0
        for (step, number) in counts.enumerated() {
            seen += number
            if seen >= rank { return Self.end(of: step) }
        }
        return nil
    }

    public var description: String {
        func microseconds(_ share: Double) -> String { "\(Double((nanoseconds(share) ?? 0) / 100) / 10) µs" }
        if count == 0 { return "none" }
        return "\(count) times: p50 \(microseconds(0.5)), p99 \(microseconds(0.99)), most \(microseconds(1))"
    }

    // MARK: Steps

    static let steps = 40 * 4

    static func step(of nanoseconds: UInt64) -> Int {
        guard nanoseconds >= 4 else { return Int(nanoseconds) }
        let power = 63 - nanoseconds.leadingZeroBitCount
        return min(steps - 1, (power - 1) * 4 + Int(nanoseconds >> UInt64(power - 2)) & 3)
    }

    /// The largest time of a step, in nanoseconds.
    static func end(of step: Int) -> UInt64 {
        guard step >= 4 else { return UInt64(step) }
        let power = step / 4 + 1
        return (UInt64(step % 4 + 5) << UInt64(power - 2)) - 1
    }
}
