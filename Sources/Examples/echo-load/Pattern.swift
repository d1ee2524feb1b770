import ExampleSupport

/// What a connection sends: bytes that depend on the connection and on the position in its stream, so that a byte
/// lost, doubled, out of place, or of another connection is found.
///
/// One table holds a period of them and, behind it, its beginning once more: any position's next bytes stand there
/// in one piece, to be sent and compared as they are.
struct Pattern {
    /// A prime: whatever the size of the messages, they begin at ever other places of it.
    private static let period = 65_521
    /// The most that can be sent or checked at once.
    static let longest = 65_536

    private let table = Bytes(count: period + longest)
    private let buffer = Bytes(count: longest)

    init() {
        var seed: UInt64 = 0x9E37_79B9_7F4A_7C15
        for index in 0..<table.count {
            if index < Pattern.period {
                seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                table[index] = UInt8(truncatingIfNeeded: seed >> 56)
            } else {
                table[index] = table[index - Pattern.period]
            }
        }
    }

    private func start(_ position: Int, _ connection: Int) -> Int {
        (position &+ connection &* 7_919) % Pattern.period
    }

    /// Sends up to `count` bytes of a connection's stream from `position` on. The kernel's count, or -errno.
    func send(_ count: Int, from position: Int, of connection: Int, to descriptor: CInt) -> Int {
        let start = start(position, connection)
        return table.send(start..<start + min(count, Pattern.longest), to: descriptor)
    }

    /// Receives what is there, at most `longest` bytes. The kernel's count, or -errno.
    func receive(from descriptor: CInt) -> Int { buffer.receive(from: descriptor) }

    /// Whether the bytes received last are those of a connection's stream from `position` on.
    func isReceived(_ count: Int, at position: Int, of connection: Int) -> Bool {
        buffer.begins(with: table, from: start(position, connection), count: count)
    }
}
