/// Keeps what a test made until the test has ended.
///
/// An optimized build lets go of an object after its last use, and a pipe that is let go of is closed: a test that only
/// watches `pipe.reader` would watch a closed descriptor. Within a test that runs `.gated(keeping: true)` pipes and the
/// like are kept; elsewhere this does nothing.
public enum Lifetimes {
    private struct State {
        var isKeeping = false
        /// Retained objects, as numbers.
        var kept: [UInt] = []
    }
    private static let state = Locked(State())

    /// For types whose end closes something: to be called by their initializers, last.
    public static func keep(_ object: AnyObject) {
        let number = UInt(bitPattern: Unmanaged.passRetained(object).toOpaque())
        let isKept = state.withLock { state in
            if state.isKeeping { state.kept.append(number) }
            return state.isKeeping
        }
        if !isKept { release(number) }
    }

    static func begin() { state.withLock { $0.isKeeping = true } }

    static func end() {
        releaseAll(above: 0)
        state.withLock { $0.isKeeping = false }
    }

    /// Runs the body, and lets go of what was kept meanwhile.
    public static func scope<Result>(_ body: () throws -> Result) rethrows -> Result {
        let level = state.withLock { $0.kept.count }
        defer { releaseAll(above: level) }
        return try body()
    }

    private static func releaseAll(above level: Int) {
        let numbers = state.withLock { state in
            let numbers = Array(state.kept.dropFirst(level))
            state.kept.removeLast(numbers.count)
            return numbers
        }
        for number in numbers { release(number) }
    }

    private static func release(_ number: UInt) {
        guard let pointer = UnsafeRawPointer(bitPattern: number) else { return }
        Unmanaged<AnyObject>.fromOpaque(pointer).release()
    }
}
