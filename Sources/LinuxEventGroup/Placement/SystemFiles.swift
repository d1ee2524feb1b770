internal import Glibc
internal import LinuxEvent

/// Small files of /proc and /sys, below a root folder, so that any machine can be a folder of test data.
///
/// Nothing that a file holds can be trusted to make sense: containers hide and fake them. What makes none is left out,
/// and noted.
struct SystemFiles {
    private let root: String
    /// What was ignored, and why.
    private(set) var notes: [String] = []

    private static let sizeLimit = 16 << 20

    init(root: String) { self.root = root.last == "/" ? String(root.dropLast()) : root }

    mutating func note(_ text: String) {
        if !notes.contains(text) { notes.append(text) }
    }

    func exists(_ path: String) -> Bool { unsafe access(root + path, F_OK) == 0 }

    /// Nil where there is no such file; that alone is no surprise.
    mutating func text(_ path: String) -> String? {
        var (text, error) = Self.read(root + path)
        if text == nil, error == EINTR { (text, error) = Self.read(root + path) }
        if text == nil, error != ENOENT, error != ENOTDIR {
            note("ignored \(path), which cannot be read: \(SystemError(call: "read", code: error))")
        }
        return text
    }

    /// A list of numbers such as "0-3,8"; nil where there is none.
    mutating func list(_ path: String) -> CPUSet? {
        guard let text = text(path) else { return nil }
        if let list = CPUSet(parsing: text) { return list }
        note("ignored \(path), which is no list of numbers")
        return nil
    }

    /// One number; nil where there is none.
    mutating func number(_ path: String) -> Int? {
        guard let text = text(path) else { return nil }
        let words = text.split(whereSeparator: \.isWhitespace)
        if words.count == 1, let number = Int(words[0]) { return number }
        note("ignored \(path), which is no number")
        return nil
    }

    private static func read(_ path: String) -> (text: String?, error: CInt) {
        // Not to hang on what is no file at all.
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return (nil, errno) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while bytes.count < sizeLimit {
            let count = unsafe Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0 { return (nil, errno) }
            if count == 0 { return (String(decoding: bytes, as: UTF8.self), 0) }
            bytes.append(contentsOf: buffer[..<count])
        }
        return (nil, EFBIG)
    }
}
