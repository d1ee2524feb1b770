import Glibc

/// A pipe: something to watch that stays readable while a byte lies in it, and writable while it is not full.
struct Pipe: Sendable {
    let readEnd: CInt
    let writeEnd: CInt

    init(holdingByte: Bool = false) {
        var ends: [CInt] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { fatalError("pipe: errno \(errno)") }
        readEnd = ends[0]
        writeEnd = ends[1]
        if holdingByte { put() }
    }

    func put() {
        var byte: UInt8 = 1
        _ = unsafe write(writeEnd, &byte, 1)
    }

    /// Blocks until a byte is there.
    func take() {
        var byte: UInt8 = 0
        while unsafe read(readEnd, &byte, 1) != 1 {}
    }

    func closeBoth() {
        close(readEnd)
        close(writeEnd)
    }
}
