import Glibc

/// Writes a line to standard output at once: Glibc's `stdout` would keep it back while it is a pipe, and a
/// script waits for "listening".
public func say(_ line: String) { writeLine(line, to: STDOUT_FILENO) }

/// Writes a line to standard error.
public func complain(_ line: String) { writeLine(line, to: STDERR_FILENO) }

/// Ends the process with one line that names the cause.
public func fail(_ program: String, _ why: String, status: CInt = 1) -> Never {
    complain("\(program): \(why)")
    exit(status)
}

private func writeLine(_ line: String, to descriptor: CInt) {
    var text = line + "\n"
    text.withUTF8 { bytes in
        var done = 0
        while done < bytes.count {
            let written = unsafe write(descriptor, bytes.baseAddress.map { unsafe $0 + done }, bytes.count - done)
            if written > 0 {
                done += written
            } else if errno == EAGAIN {
                // Somebody who shares the terminal or the pipe made it non-blocking: wait until it takes more.
                var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = unsafe poll(&entry, 1, -1)
            } else if errno != EINTR {
                return
            }
        }
    }
}

extension String {
    /// At least `width` characters: a positive width aligns to the right, a negative one to the left.
    public func padded(to width: Int) -> String {
        let blanks = String(repeating: " ", count: Swift.max(0, abs(width) - count))
        return width < 0 ? self + blanks : blanks + self
    }
}

extension Double {
    /// Decimal with a fixed number of digits, as JSON takes it.
    public func fixed(_ digits: Int) -> String {
        guard isFinite else { return "0" }
        let scale = (0..<digits).reduce(1) { value, _ in value * 10 }
        let scaled = Int64((magnitude * Double(scale)).rounded())
        let whole = "\(self < 0 && scaled != 0 ? "-" : "")\(scaled / Int64(scale))"
        guard digits > 0 else { return whole }
        let fraction = "\(scaled % Int64(scale))"
        return "\(whole).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
    }
}

extension Duration {
    public var seconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}

/// Nanoseconds for people: "870 ns", "12.3 µs", "4.56 ms".
public func readable(nanoseconds: UInt64) -> String {
    let value = Double(nanoseconds)
    switch nanoseconds {
    case ..<1_000: return "\(nanoseconds) ns"
    case ..<1_000_000: return "\((value / 1e3).fixed(1)) µs"
    case ..<1_000_000_000: return "\((value / 1e6).fixed(2)) ms"
    default: return "\((value / 1e9).fixed(2)) s"
    }
}
