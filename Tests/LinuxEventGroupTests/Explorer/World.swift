import CExplorer

/// A memory that virtual threads share: words with orderings, plain memory, locks and bells, as weak as the language
/// allows rather than as strong as this processor is.
///
/// A word keeps all values that it ever had, in the order of its changes. A load may see any of them that is not older
/// than what its thread knows of: the newer stores are still on their way to it. A read-modify-write sees the newest.
/// Who acquires a value learns what whoever released it knew, also through the read-modify-writes of others after it.
///
/// Plain memory has one value, and two accesses that no such chain orders are a race, whether or not they came in an
/// order that does no harm in this run. So plain accesses need no scheduling of their own.
///
/// Not modelled: a store that takes its place before older ones of the same word, and a load that sees a later store.
final class World {
    /// The one that is explored: words are made without being told where.
    nonisolated(unsafe) static var current: World!

    private struct Message {
        var value: UInt
        /// What whoever acquires the value learns.
        var released = explorer_clock()
    }

    private struct Plain {
        var value: UInt = 0
        var writer: UInt32 = 0
        var time: UInt32 = 0
        /// When each thread has read the value last.
        var reads = explorer_clock()
    }

    private struct Lock {
        var isHeld = 0
        var released = explorer_clock()
    }

    /// What can end a shard's wait: an eventfd, and a descriptor that is watched.
    private struct Bell {
        var isRung = 0
        var isReadable = 0
        var released = explorer_clock()
    }

    private struct Thread {
        var clock = explorer_clock()
        /// All that it has got to know, so where it stands: nothing else decides on its steps.
        var history: UInt64 = 0
        var hasEnded: Int32 = 0
        var awaits = Awaits.nothing
        var object: UInt16 = 0
    }

    private enum Awaits: UInt16 { case nothing, lock, bell }

    private static let messageLimit = 64
    private static let otherLimit = 4

    /// By the number of the word, so many for each.
    private let messages = allocate(Message(value: 0), Int(EXPLORER_WORDS) * messageLimit)
    private let messageCounts = allocate(0, Int(EXPLORER_WORDS))
    private let plains = allocate(Plain(), 32)
    private let locks = allocate(Lock(), otherLimit)
    private let bells = allocate(Bell(), otherLimit)
    private let threads = allocate(Thread(), Int(EXPLORER_THREADS))
    /// What a test writes down beside: nobody's memory, so without races.
    private let notes = allocate(0, 64)

    private var firstValues: [UInt] = []
    private var wordNames: [String] = []
    private var threadNames: [String] = []
    private var bodies: [() -> Void] = []
    private var fibers: [OpaquePointer] = []
    private var plainCount = 0
    private var lockCount = 0
    private var bellCount = 0
    private var noteCount = 0
    private var regions: [(bytes: UnsafeRawBufferPointer, reset: () -> Void)] = []

    let search: Search
    /// By the number of the word.
    var faults: [Int: WordFault] = [:]
    /// Locks keep nobody out, and order nothing.
    var hasBrokenLocks = false
    /// The thread whose step it is; -1 between runs.
    @exclusivity(unchecked) private(set) var running = -1
    @exclusivity(unchecked) private(set) var failure: String?
    /// Whether each step is written down.
    @exclusivity(unchecked) var isTracing = false
    private(set) var trace: [String] = []

    init(_ search: Search) { self.search = search }

    private static func allocate<Value>(_ value: Value, _ count: Int) -> UnsafeMutablePointer<Value> {
        let memory = UnsafeMutablePointer<Value>.allocate(capacity: count)
        memory.initialize(repeating: value, count: count)
        return memory
    }

    /// Gives the memory back, by hand: runs that were cut short have left references behind.
    func free() {
        for fiber in fibers { explorer_fiber_free(fiber) }
        for region in regions { region.bytes.deallocate() }
        messages.deallocate()
        messageCounts.deallocate()
        plains.deallocate()
        locks.deallocate()
        bells.deallocate()
        threads.deallocate()
        notes.deallocate()
        (fibers, regions, bodies) = ([], [], [])
    }

    // MARK: What there is

    func addThread(_ name: String, _ body: @escaping () -> Void) {
        threadNames.append(name)
        bodies.append(body)
        fibers.append(explorer_fiber_make())
    }

    func addWord(_ value: UInt) -> Int {
        firstValues.append(value)
        wordNames.append("word \(firstValues.count)")
        return firstValues.count - 1
    }

    /// The word that was made last gets a name.
    func nameWord(_ name: String) -> Int {
        wordNames[wordNames.count - 1] = name
        return wordNames.count - 1
    }

    func addPlain() -> Int {
        plainCount += 1
        return plainCount - 1
    }

    func addLock() -> Int {
        lockCount += 1
        return lockCount - 1
    }

    func addBell() -> Int {
        bellCount += 1
        return bellCount - 1
    }

    func addNote() -> Int {
        noteCount += 1
        return noteCount - 1
    }

    /// Memory that is part of the state; its size is a multiple of eight.
    func addRegion(_ bytes: UnsafeRawBufferPointer, reset: @escaping () -> Void) { regions.append((bytes, reset)) }

    // MARK: Runs

    var threadCount: Int { fibers.count }

    func letter(of thread: Int) -> UInt8 { UInt8(ascii: "a") + UInt8(thread) }

    /// Puts everything back to where it was, and each thread before its first step.
    func begin() {
        World.current = self
        failure = nil
        trace = []
        for word in firstValues.indices {
            messageCounts[word] = 1
            messages[word * Self.messageLimit] = Message(value: firstValues[word])
        }
        for index in 0..<plainCount { plains[index] = Plain() }
        for index in 0..<lockCount { locks[index] = Lock() }
        for index in 0..<bellCount { bells[index] = Bell() }
        for index in 0..<noteCount { notes[index] = 0 }
        for region in regions { region.reset() }
        for thread in fibers.indices {
            threads[thread] = Thread()
            explorer_clock_set(&threads[thread].clock, thread, 1)
            explorer_fiber_prepare(
                fibers[thread],
                { context in
                    let world = Unmanaged<World>.fromOpaque(context!).takeUnretainedValue()
                    world.bodies[world.running]()
                }, Unmanaged.passUnretained(self).toOpaque())
        }
        for thread in fibers.indices where failure == nil { step(thread) }
    }

    /// Lets a thread take the step that it stands before, and all up to its next one.
    func step(_ thread: Int) {
        running = thread
        if explorer_fiber_resume(fibers[thread]) {
            // What it knew makes no difference any more.
            threads[thread] = Thread()
            threads[thread].hasEnded = 1
        }
        running = -1
    }

    func canGoOn(_ thread: Int) -> Bool {
        guard threads[thread].hasEnded == 0 else { return false }
        let object = Int(threads[thread].object)
        switch threads[thread].awaits {
        case .nothing: return true
        case .lock: return locks[object].isHeld == 0
        case .bell: return bells[object].isRung + bells[object].isReadable > 0
        }
    }

    func hasEnded(_ thread: Int) -> Bool { threads[thread].hasEnded != 0 }

    /// The same for the same state, whichever way led there.
    func hash(_ seed: UInt64) -> UInt64 {
        var hash = explorer_hash(seed, threads, MemoryLayout<Thread>.stride * fibers.count)
        for word in firstValues.indices {
            // Values that nobody can see any more make no difference.
            var oldest = messageCounts[word] - 1
            for thread in fibers.indices where threads[thread].hasEnded == 0 {
                oldest = min(oldest, floor(word, thread))
            }
            hash = explorer_hash(
                hash ^ UInt64(messageCounts[word]), messages + (word * Self.messageLimit + oldest),
                (messageCounts[word] - oldest) * MemoryLayout<Message>.stride)
        }
        hash = explorer_hash(hash, plains, MemoryLayout<Plain>.stride * plainCount)
        hash = explorer_hash(hash, locks, MemoryLayout<Lock>.stride * lockCount)
        hash = explorer_hash(hash, bells, MemoryLayout<Bell>.stride * bellCount)
        hash = explorer_hash(hash, notes, 8 * noteCount)
        for region in regions { hash = explorer_hash(hash, region.bytes.baseAddress, region.bytes.count) }
        return hash
    }

    /// Something is wrong. On a virtual thread this does not return.
    func fail(_ text: String) {
        if failure == nil { failure = text }
        tell("FAILS: \(text)")
        while running >= 0 { explorer_fiber_yield() }
    }

    func expect(_ condition: Bool, _ text: @autoclosure () -> String) {
        if !condition { fail(text()) }
    }

    func tell(_ text: @autoclosure () -> String) {
        guard isTracing else { return }
        trace.append("\(running < 0 ? "end" : threadNames[running]): \(text())")
    }

    // MARK: Steps of threads

    /// Where others may come in between. What the thread stands before is part of where it stands.
    private func point(_ kind: UInt, _ object: Int, _ awaits: Awaits = .nothing) {
        learn(kind << 8 | UInt(object))
        threads[running].awaits = awaits
        threads[running].object = UInt16(object)
        explorer_fiber_yield()
        threads[running].awaits = .nothing
    }

    /// The running thread got to know something.
    private func learn(_ value: UInt) {
        var value = UInt64(value)
        threads[running].history = explorer_hash(threads[running].history, &value, 8)
    }

    /// A place in a thread's code where it remembers nothing but this: what led here makes no difference any more.
    func landmark(_ value: UInt) { threads[running].history = UInt64(value) }

    private func time() -> UInt32 { UInt32(explorer_clock_get(&threads[running].clock, running)) }

    private func floor(_ word: Int, _ thread: Int) -> Int {
        Int(explorer_clock_get(&threads[thread].clock, Int(EXPLORER_THREADS) + word))
    }

    private func message(_ word: Int, _ index: Int) -> UnsafeMutablePointer<Message> {
        messages + (word * Self.messageLimit + index)
    }

    private func see(_ word: Int, _ index: Int, isAcquiring: Bool) {
        explorer_clock_set(&threads[running].clock, Int(EXPLORER_THREADS) + word, UInt16(index))
        if isAcquiring { explorer_clock_join(&threads[running].clock, &message(word, index).pointee.released) }
    }

    private func append(_ word: Int, _ value: UInt, isReleasing: Bool, continues: Bool) {
        let index = messageCounts[word]
        if index == Self.messageLimit { return fail("no end: the word has changed \(index) times") }
        messageCounts[word] = index + 1
        see(word, index, isAcquiring: false)
        let new = message(word, index)
        new.pointee = Message(value: value)
        if continues { new.pointee.released = message(word, index - 1).pointee.released }
        if isReleasing { release(&new.pointee.released) }
    }

    private func release(_ clock: UnsafeMutablePointer<explorer_clock>) {
        explorer_clock_join(clock, &threads[running].clock)
        explorer_clock_set(&threads[running].clock, running, UInt16(time() + 1))
    }

    /// Which of the values that may be seen a load sees: 0 is the newest. All but that are odd.
    private func age(_ word: Int) -> Int {
        let newest = messageCounts[word] - 1
        return search.odd(newest - floor(word, running) + 1)
    }

    func load(_ word: Int, isAcquiring: Bool) -> UInt {
        point(1, word)
        let index = messageCounts[word] - 1 - age(word)
        let value = message(word, index).pointee.value
        see(word, index, isAcquiring: isAcquiring)
        tell("loads \(value) from \(wordNames[word])\(index < messageCounts[word] - 1 ? ", an old value" : "")")
        learn(value)
        return value
    }

    func store(_ word: Int, _ value: UInt, isReleasing: Bool) {
        point(2, word)
        tell("stores \(value) in \(wordNames[word])")
        append(word, value, isReleasing: isReleasing, continues: false)
    }

    func exchange(_ word: Int, _ value: UInt, isAcquiring: Bool, isReleasing: Bool) -> UInt {
        point(3, word)
        let newest = messageCounts[word] - 1
        let old = message(word, newest).pointee.value
        tell("exchanges \(old) for \(value) in \(wordNames[word])")
        see(word, newest, isAcquiring: isAcquiring)
        append(word, value, isReleasing: isReleasing, continues: true)
        learn(old)
        return old
    }

    func add(_ word: Int, _ value: UInt, isAcquiring: Bool, isReleasing: Bool) -> UInt {
        point(4, word)
        let newest = messageCounts[word] - 1
        let new = message(word, newest).pointee.value &+ value
        tell("counts \(wordNames[word]) to \(Int(bitPattern: new))")
        see(word, newest, isAcquiring: isAcquiring)
        append(word, new, isReleasing: isReleasing, continues: true)
        learn(new)
        return new
    }

    func compareExchange(
        _ word: Int, expected: UInt, desired: UInt, isAcquiring: Bool, isReleasing: Bool, isWeak: Bool,
        failureAcquires: Bool
    ) -> (exchanged: Bool, original: UInt) {
        point(5, word)
        let newest = messageCounts[word] - 1
        let old = message(word, newest).pointee.value
        let isEqual = old == expected
        if isEqual && (!isWeak || search.odd(2) == 0) {
            tell("exchanges \(old) for \(desired) in \(wordNames[word])")
            see(word, newest, isAcquiring: isAcquiring)
            append(word, desired, isReleasing: isReleasing, continues: true)
        } else {
            see(word, newest, isAcquiring: failureAcquires)
            tell("finds \(old) in \(wordNames[word]) and exchanges nothing\(isEqual ? ", for no reason" : "")")
            learn(1)
            learn(old)
            return (false, old)
        }
        learn(0)
        return (true, old)
    }

    // MARK: Plain memory

    func read(_ plain: Int, _ name: @autoclosure () -> String) -> UInt {
        let cell = plains + plain
        if explorer_clock_get(&threads[running].clock, Int(cell.pointee.writer)) < cell.pointee.time {
            let writer = threadNames[Int(cell.pointee.writer)]
            fail("race: \(threadNames[running]) reads \(name()), and \(writer)'s write is not ordered before")
        }
        explorer_clock_set(&cell.pointee.reads, running, UInt16(time()))
        return cell.pointee.value
    }

    func write(_ plain: Int, _ value: UInt, _ name: @autoclosure () -> String) {
        let cell = plains + plain
        let isAfterReads = explorer_clock_is_before(&cell.pointee.reads, &threads[running].clock)
        if !isAfterReads || explorer_clock_get(&threads[running].clock, Int(cell.pointee.writer)) < cell.pointee.time {
            fail("race: \(threadNames[running]) writes \(name()), and another's access is not ordered before")
        }
        cell.pointee = Plain(value: value, writer: UInt32(running), time: time())
    }

    // MARK: Locks and bells

    func fault(of word: Int) -> WordFault? { faults.isEmpty ? nil : faults[word] }

    func lock(_ lock: Int) {
        if hasBrokenLocks { return point(6, lock) }
        point(6, lock, .lock)
        locks[lock].isHeld = 1
        explorer_clock_join(&threads[running].clock, &locks[lock].released)
        tell("takes the lock")
    }

    func unlock(_ lock: Int) {
        if hasBrokenLocks { return }
        locks[lock].isHeld = 0
        release(&locks[lock].released)
        tell("lets go of the lock")
    }

    /// What was written before is visible to who hears it.
    func ring(_ bell: Int) {
        point(7, bell)
        tell("rings")
        release(&bells[bell].released)
        bells[bell].isRung = 1
    }

    func makeReadable(_ bell: Int) {
        point(8, bell)
        tell("makes a descriptor readable")
        bells[bell].isReadable = 1
    }

    /// Waits for a bell, or only looks; whether it was rung.
    func await(_ bell: Int, blocks: Bool) -> Bool {
        point(blocks ? 9 : 10, bell, blocks ? .bell : .nothing)
        let wasRung = bells[bell].isRung != 0
        tell("\(blocks ? "wakes" : "polls"), \(wasRung ? "was rung" : "was not rung")")
        bells[bell].isRung = 0
        bells[bell].isReadable = 0
        learn(wasRung ? 1 : 0)
        return wasRung
    }

    func hear(_ bell: Int) { explorer_clock_join(&threads[running].clock, &bells[bell].released) }

    func isRung(_ bell: Int) -> Bool { bells[bell].isRung != 0 }

    // MARK: For the test's eyes

    /// A step that concerns nothing but notes.
    func pause() { point(11, 0) }

    func note(_ note: Int) -> Int { notes[note] }

    func note(_ note: Int, _ value: Int) { notes[note] = value }

    /// All values that the word had, in order.
    func values(of word: Int) -> [UInt] { (0..<messageCounts[word]).map { message(word, $0).pointee.value } }

    func peek(_ plain: Int) -> UInt { plains[plain].value }

    func newest(_ word: Int) -> UInt { message(word, messageCounts[word] - 1).pointee.value }
}
