import Glibc

/// A block of raw memory that system calls fill and empty. The door to what is unsafe in the examples: every
/// range is checked here, and nothing hands its pointer out.
///
/// Calls answer with the kernel's count, or -errno.
@safe public final class Bytes {
    private let base: UnsafeMutableRawPointer
    public let count: Int

    public init(count: Int) {
        self.count = count
        unsafe base = .allocate(byteCount: count, alignment: 64)
    }

    /// A copy of a part of another block.
    public convenience init(copying source: Bytes, _ range: Range<Int>) {
        source.check(range)
        self.init(count: range.count)
        unsafe base.copyMemory(from: source.base + range.lowerBound, byteCount: range.count)
    }

    deinit { unsafe base.deallocate() }

    /// recv(2) to the start of the block.
    public func receive(from descriptor: CInt) -> Int {
        let received = unsafe recv(descriptor, base, count, 0)
        return received < 0 ? -Int(errno) : received
    }

    /// send(2). A peer that has gone is an EPIPE, never a signal.
    public func send(_ range: Range<Int>, to descriptor: CInt) -> Int {
        check(range)
        let sent = unsafe Glibc.send(descriptor, base + range.lowerBound, range.count, CInt(MSG_NOSIGNAL))
        return sent < 0 ? -Int(errno) : sent
    }

    /// read(2) to the start of the block.
    public func read(from descriptor: CInt) -> Int {
        let received = unsafe Glibc.read(descriptor, base, count)
        return received < 0 ? -Int(errno) : received
    }

    public subscript(index: Int) -> UInt8 {
        get {
            check(index..<index + 1)
            return unsafe base.load(fromByteOffset: index, as: UInt8.self)
        }
        set {
            check(index..<index + 1)
            unsafe base.storeBytes(of: newValue, toByteOffset: index, as: UInt8.self)
        }
    }

    /// Whether the first `count` bytes equal those of `other` from `start` on.
    public func begins(with other: Bytes, from start: Int, count: Int) -> Bool {
        check(0..<count)
        other.check(start..<start + count)
        return unsafe memcmp(base, other.base + start, count) == 0
    }

    /// The first `count` bytes as text.
    public func text(_ count: Int) -> String {
        check(0..<count)
        return unsafe String(decoding: UnsafeRawBufferPointer(start: base, count: count), as: UTF8.self)
    }

    @inline(__always) private func check(_ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "outside the block")
    }
}

/// write(2) of a short text to a pipe; false when the pipe does not take it whole.
public func write(_ text: String, to descriptor: CInt) -> Bool {
    var text = text
    return text.withUTF8 { bytes in unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count) == bytes.count }
}
