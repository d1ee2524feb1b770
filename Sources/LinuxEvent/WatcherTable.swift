/// Names one registration in the kernel's set: the descriptor, and the low half of its watcher's generation.
///
/// A descriptor number is used again as soon as it is closed; the generation is not. So an event that was fetched for
/// a watcher of the past finds nobody. Contract W4, D6.
struct Token: Hashable {
    let rawValue: UInt64

    @inline(__always) init(rawValue: UInt64) { self.rawValue = rawValue }

    @inline(__always) init(_ descriptor: CInt, _ generation: UInt64) {
        rawValue = UInt64(UInt32(bitPattern: descriptor)) | generation << 32
    }

    @inline(__always) var descriptor: CInt { CInt(truncatingIfNeeded: rawValue) }
    @inline(__always) var generation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
}

/// The user's callbacks of one watcher, and whatever they capture.
///
/// Owned by the table alone. Its properties are `let`, and it is called under a guaranteed reference: then a call
/// costs no retain, no release and no exclusivity check. Contract D8.
final class WatcherRecord {
    let read: Handler?
    let write: Handler?
    let error: Handler?

    init(read: Handler?, write: Handler?, error: Handler?) {
        self.read = read
        self.write = write
        self.error = error
    }
}

/// All that the loop knows of one descriptor. Trivial memory: no reference is counted when it is read.
@safe struct WatcherSlot {
    /// Of the present watcher; 0 where there is none.
    var generation: UInt64 = 0
    /// Owned: +1, taken back when the watcher ends.
    var record: Unmanaged<WatcherRecord>?
    /// What the kernel's set holds for this watcher; `spent` where it holds it disarmed.
    var kernelMask: UInt32 = 0
    /// Reports that need no thought: nothing but these bits, and each has its enabled handler. Contract D4, D5.
    var plain: UInt32 = 0
    /// The turn in which the last watcher of this number ended: an event of the past is no surprise in that turn.
    var removalTurn: UInt32 = 0
    /// What the user asks for.
    var interest: Interest = []
    /// What can be called: interest for which there is a handler, and the error handler.
    var steps: Steps = []
    var traits: WatcherTraits = []
    var state: WatcherState = []
}

/// What a watcher is, for life.
struct WatcherTraits: OptionSet {
    let rawValue: UInt8
    static let edgeTriggered = WatcherTraits(rawValue: 1)
    static let oneshot = WatcherTraits(rawValue: 2)
    static let exclusive = WatcherTraits(rawValue: 4)
    /// One of the loop's own descriptors. Contract E3.
    static let `internal` = WatcherTraits(rawValue: 8)
    static let hasRead = WatcherTraits(rawValue: 16)
    static let hasWrite = WatcherTraits(rawValue: 32)
    static let hasError = WatcherTraits(rawValue: 64)
}

/// What a watcher is at the moment.
struct WatcherState: OptionSet {
    let rawValue: UInt8
    /// A oneshot that has delivered its event and was not re-armed. Contract W7.
    static let disarmed = WatcherState(rawValue: 1)
    /// Outside the kernel's set, because it reported what nobody could take. Contract W10.
    static let parked = WatcherState(rawValue: 2)
    /// In the list of changes that the end of the turn hands to the kernel. Contract W5.
    static let changed = WatcherState(rawValue: 4)
    /// An edge or a oneshot event found its step disabled: the kernel will not repeat it unasked. Contract W5.
    static let dropped = WatcherState(rawValue: 8)
    /// The kernel's mask of this level-triggered oneshot carries EPOLLONESHOT.
    static let carriesOneshot = WatcherState(rawValue: 16)
    /// Delivered in the turn that is running: what re-arms it now costs no system call.
    static let deliveredNow = WatcherState(rawValue: 32)

    /// Events are not for the user.
    static let silent: WatcherState = [.disarmed, .parked]
}

/// Watchers by descriptor number: constant time, and no memory by number.
///
/// Two levels: a directory of leaves, and leaves of 256 slots that exist while one of their numbers is watched. So a
/// single descriptor with a number near 2^30 costs a leaf and 10 bytes per 256 numbers.
///
/// The unsafe memory is behind `WatcherReference`, which is good until the next call of `prune`.
@safe struct WatcherTable: ~Copyable {
    private typealias Leaf = UnsafeMutablePointer<WatcherSlot>

    private static var leafBits: CInt { 8 }
    private static var leafCapacity: Int { 1 << 8 }

    /// One word per leaf: a high number costs memory by the 256 numbers.
    @safe private struct Header {
        var directory: UnsafeMutablePointer<UnsafeMutablePointer<WatcherSlot>?>
        /// Watchers per leaf, beside the directory.
        var populations: UnsafeMutablePointer<UInt16>
        var leafCount: UInt32 = 0
        /// Leaves that hold memory and no watcher.
        var emptyLeaves = 0
    }

    private let header: UnsafeMutablePointer<Header>

    init() {
        unsafe header = .allocate(capacity: 1)
        unsafe header.initialize(to: Header(directory: .allocate(capacity: 0), populations: .allocate(capacity: 0)))
    }

    deinit {
        for index in 0..<Int(leafCount) { unsafe header.pointee.directory[index]?.deallocate() }
        unsafe header.pointee.directory.deallocate()
        unsafe header.pointee.populations.deallocate()
        unsafe header.deallocate()
    }

    @inline(__always) private var leafCount: UInt32 { unsafe header.pointee.leafCount }

    /// The watcher that a token of the kernel's means, if it still lives. The one look-up of the hot path.
    @inline(__always)
    func live(_ token: Token) -> WatcherReference? {
        guard let slot = slot(token.descriptor),
            UInt32(truncatingIfNeeded: slot.value.generation) == token.generation
        else { return nil }
        return slot
    }

    /// The watcher that a handle means, if it still lives: by all 64 bits of its generation.
    @inline(__always)
    func live(_ descriptor: CInt, _ generation: UInt64) -> WatcherReference? {
        guard let slot = slot(descriptor), slot.value.generation == generation else { return nil }
        return slot
    }

    /// The slot of a number, vacant or not; nil where its leaf does not exist. Negative numbers have none.
    @inline(__always)
    func slot(_ descriptor: CInt) -> WatcherReference? {
        let index = UInt32(bitPattern: descriptor >> Self.leafBits)
        guard index < leafCount, let leaf = unsafe header.pointee.directory[Int(index)] else { return nil }
        return unsafe WatcherReference(leaf + Int(descriptor) & (Self.leafCapacity - 1))
    }

    /// The slot of a number, made if need be.
    func makeSlot(_ descriptor: CInt) -> WatcherReference {
        let index = UInt32(bitPattern: descriptor >> Self.leafBits)
        if index >= leafCount { grow(to: index + 1) }
        if unsafe header.pointee.directory[Int(index)] == nil {
            let leaf = Leaf.allocate(capacity: Self.leafCapacity)
            unsafe leaf.initialize(repeating: WatcherSlot(), count: Self.leafCapacity)
            unsafe header.pointee.directory[Int(index)] = leaf
            unsafe header.pointee.emptyLeaves += 1
        }
        return slot(descriptor)!
    }

    private func grow(to needed: UInt32) {
        var count = max(leafCount, 4)
        while count < needed { count *= 2 }
        let leaves = UnsafeMutablePointer<Leaf?>.allocate(capacity: Int(count))
        unsafe leaves.initialize(repeating: nil, count: Int(count))
        unsafe leaves.update(from: header.pointee.directory, count: Int(leafCount))
        unsafe header.pointee.directory.deallocate()
        unsafe header.pointee.directory = leaves
        let numbers = UnsafeMutablePointer<UInt16>.allocate(capacity: Int(count))
        unsafe numbers.initialize(repeating: 0, count: Int(count))
        unsafe numbers.update(from: header.pointee.populations, count: Int(leafCount))
        unsafe header.pointee.populations.deallocate()
        unsafe header.pointee.populations = numbers
        unsafe header.pointee.leafCount = count
    }

    /// Counts a watcher that began.
    func populate(_ descriptor: CInt) {
        let leaf = Int(descriptor >> Self.leafBits)
        if unsafe header.pointee.populations[leaf] == 0 { unsafe header.pointee.emptyLeaves -= 1 }
        unsafe header.pointee.populations[leaf] += 1
    }

    /// Counts a watcher that ended; true if it was the last of its leaf. The leaf is let go of by `prune`, not here:
    /// callers may hold a reference into it.
    func vacate(_ descriptor: CInt) -> Bool {
        let leaf = Int(descriptor >> Self.leafBits)
        unsafe header.pointee.populations[leaf] -= 1
        guard unsafe header.pointee.populations[leaf] == 0 else { return false }
        unsafe header.pointee.emptyLeaves += 1
        return true
    }

    /// Lets go of empty leaves once there are many. Contract L12. No reference may be held across it.
    ///
    /// A few stay: a service that opens and closes its only connection must not allocate a leaf for each.
    func prune() {
        guard unsafe header.pointee.emptyLeaves > 16 + Int(leafCount) / 8 else { return }
        for leaf in 0..<Int(leafCount) where unsafe header.pointee.populations[leaf] == 0 {
            unsafe header.pointee.directory[leaf]?.deallocate()
            unsafe header.pointee.directory[leaf] = nil
        }
        unsafe header.pointee.emptyLeaves = 0
    }

    /// Where the leaves lie.
    var memory: [MemoryRange] {
        (0..<Int(leafCount)).compactMap { index in
            guard let leaf = unsafe header.pointee.directory[index] else { return nil }
            return MemoryRange(
                start: UInt(bitPattern: leaf), byteCount: Self.leafCapacity * MemoryLayout<WatcherSlot>.stride)
        }
    }

    /// Calls `body` for each live watcher. The body may not end any.
    func forEach(_ body: (CInt, WatcherReference) -> Void) {
        for leaf in 0..<CInt(leafCount) where unsafe header.pointee.populations[Int(leaf)] > 0 {
            for offset in 0..<CInt(Self.leafCapacity) {
                let descriptor = leaf << Self.leafBits | offset
                guard let slot = slot(descriptor), slot.value.generation != 0 else { continue }
                body(descriptor, slot)
            }
        }
    }
}

/// A slot of the table, by reference.
@safe struct WatcherReference {
    private let pointer: UnsafeMutablePointer<WatcherSlot>

    @inline(__always) fileprivate init(_ pointer: UnsafeMutablePointer<WatcherSlot>) { unsafe self.pointer = pointer }

    var value: WatcherSlot {
        @inline(__always) get { unsafe pointer.pointee }
        @inline(__always) nonmutating _modify { yield unsafe &pointer.pointee }
    }
}
