import Glibc
import TestSupport

/// An open file, which descriptors of several slots, and of children, may mean.
final class OpenFile {
    enum Kind { case unix, pipeReader, pipeWriter, tcp, null }

    let kind: Kind
    /// The other end. Not kept alive by this one.
    private(set) weak var peer: OpenFile?
    /// How many children hold it.
    var childHolders = 0
    /// The kernel may wake those who look at it at any time: a TCP connection that is ending, of which the
    /// acknowledgements come when they come.
    var isRestless = false
    let identity: [UInt64]

    init(_ kind: Kind, _ number: CInt) {
        self.kind = kind
        identity = OpenFile.identity(number)
    }

    static func join(_ near: OpenFile, _ far: OpenFile) {
        near.peer = far
        far.peer = near
    }

    static func identity(_ number: CInt) -> [UInt64] {
        var status = stat()
        return fstat(number, &status) == 0 ? [UInt64(status.st_dev), UInt64(status.st_ino)] : []
    }

    var isSocket: Bool { kind == .unix || kind == .tcp }
    var canRead: Bool { isSocket || kind == .pipeReader }
    var canWrite: Bool { isSocket || kind == .pipeWriter }
}

/// The descriptors of a script, by slot, and what they mean.
final class OpenFiles {
    private(set) var numbers = [CInt](repeating: -1, count: Act.slots)
    private(set) var files = [OpenFile?](repeating: nil, count: Act.slots)
    /// What the number of a slot is, or was last.
    private(set) var lastNumbers = [CInt](repeating: -1, count: Act.slots)
    private var entries = [pollfd](repeating: pollfd(), count: Act.slots)

    func isOpen(_ slot: Int) -> Bool { numbers[slot] >= 0 }

    /// A descriptor that means the file, if there is one.
    func number(of file: OpenFile) -> CInt? {
        for slot in 0..<Act.slots where files[slot] === file { return numbers[slot] }
        return nil
    }

    /// Whether anybody still holds the file.
    func isAlive(_ file: OpenFile) -> Bool { file.childHolders > 0 || number(of: file) != nil }

    // MARK: Opening and closing

    /// Makes both ends of something new for the two slots of a pair, which must be empty.
    func open(_ kind: Script.Setup.Pair, pair: Int) {
        switch kind {
        case .none: break
        case .unix:
            let ends = Sockets.unixPair().release()
            // A small buffer is soon full, which is cheap to bring about and to undo.
            var size: CInt = 4_608
            for end in [ends.near, ends.far] {
                setsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<CInt>.size))
            }
            take(pair, (.unix, ends.near), (.unix, ends.far))
        case .pipe:
            let ends = Pipe().release()
            // F_SETPIPE_SZ, which the Glibc module lacks.
            _ = fcntl(ends.writer, 1_031, 4_096)
            take(pair, (.pipeReader, ends.reader), (.pipeWriter, ends.writer))
        case .tcp:
            let ends = Sockets.tcpPair().release()
            take(pair, (.tcp, ends.near), (.tcp, ends.far))
        case .null:
            take(pair, (.null, OpenFiles.null()), (.null, OpenFiles.null()))
        }
    }

    private static func null() -> CInt { Glibc.open("/dev/null", O_RDWR | O_CLOEXEC) }

    private func take(_ pair: Int, _ near: (OpenFile.Kind, CInt), _ far: (OpenFile.Kind, CInt)) {
        let first = OpenFile(near.0, near.1)
        let second = OpenFile(far.0, far.1)
        if near.0 != .null { OpenFile.join(first, second) }
        (numbers[2 * pair], numbers[2 * pair + 1]) = (near.1, far.1)
        (files[2 * pair], files[2 * pair + 1]) = (first, second)
    }

    func close(_ slot: Int) {
        Glibc.close(numbers[slot])
        lastNumbers[slot] = numbers[slot]
        numbers[slot] = -1
        files[slot] = nil
    }

    /// Closes so that a TCP peer gets a reset, if this is the last descriptor of the file.
    func reset(_ slot: Int) {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(numbers[slot], SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close(slot)
    }

    /// dup(2) into an empty slot.
    func copy(_ slot: Int, to empty: Int) {
        numbers[empty] = IO.copy(numbers[slot])
        files[empty] = files[slot]
    }

    /// dup2(2) over the number of another slot.
    func place(_ slot: Int, at taken: Int) {
        IO.place(numbers[slot], at: numbers[taken])
        _ = fcntl(numbers[taken], F_SETFD, FD_CLOEXEC)
        files[taken] = files[slot]
    }

    func closeAll() {
        for slot in 0..<Act.slots where isOpen(slot) { close(slot) }
    }

    // MARK: What is so

    /// The number of a slot; of an empty one the last that it had, which may be nobody's or somebody else's by now.
    func number(_ slot: Int) -> CInt { isOpen(slot) ? numbers[slot] : lastNumbers[slot] }

    /// What poll(2) says of each slot; nothing where it is empty.
    func readiness() -> [Readiness] {
        for slot in 0..<Act.slots { entries[slot] = pollfd(fd: numbers[slot], events: 0x2007, revents: 0) }
        poll(&entries, nfds_t(Act.slots), 0)
        return entries.map { Readiness(rawValue: UInt32(UInt16(bitPattern: $0.revents))) }
    }

    /// The slots whose descriptor no longer means what it did, though the script did not close it.
    var brokenSlots: [Int] {
        (0..<Act.slots).filter { slot in
            guard let file = files[slot] else { return false }
            return OpenFile.identity(numbers[slot]) != file.identity
        }
    }

    /// Bytes that wait to be read.
    static func unread(_ number: CInt) -> Int {
        var count: CInt = 0
        return ioctl(number, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
    }
}
