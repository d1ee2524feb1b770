import Glibc

/// One of each, on purpose.
enum CounterCheck {
    static func passes(_ counter: Counter) -> Bool {
        let subject = Subject()
        let start = counter.now
        let kept = unsafe keep(subject)
        let afterRetain = counter.now
        unsafe drop(kept)
        let afterRelease = counter.now
        let memory = unsafe allocate()
        let afterMalloc = counter.now
        unsafe free(memory)
        subject.checkedAccess()
        let end = counter.now
        return (afterRetain - start).retains == 1
            && (afterRelease - afterRetain).releases == 1
            && (afterMalloc - afterRelease).allocations == 1
            && (end - afterMalloc).frees == 1
            && (end - afterMalloc).accesses >= 1
    }

    @inline(never) private static func keep(_ subject: Subject) -> Unmanaged<Subject> { unsafe .passRetained(subject) }
    @inline(never) private static func drop(_ kept: Unmanaged<Subject>) { unsafe kept.release() }

    /// In a function of its own, lest the compiler see that nobody uses what it frees and drop both calls.
    @inline(never) private static func allocate() -> UnsafeMutableRawPointer? { unsafe malloc(100) }

    private final class Subject {
        var value = 0
        var during: (() -> Void)?

        /// The compiler cannot know what `during` does to `value`, so it has the access checked while the program runs.
        @inline(never) func checkedAccess() { modify(&value) }

        @inline(never) private func modify(_ value: inout Int) {
            during?()
            value += 1
        }
    }
}
