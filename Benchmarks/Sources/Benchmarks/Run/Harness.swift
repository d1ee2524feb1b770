import CRaw
import Glibc

struct SystemFailure: Error, CustomStringConvertible {
    let what: String
    let code: CInt
    var description: String { "\(what): \(String(cString: strerror(code)))" }
}

/// The value of a call that answers -errno.
@discardableResult
func check(_ what: String, _ value: CInt) throws -> CInt {
    guard value >= 0 else { throw SystemFailure(what: what, code: -value) }
    return value
}

/// The sample of a yardstick in C.
func rawSample(_ body: (UnsafeMutablePointer<craw_result>) -> CInt) throws -> Sample {
    var result = craw_result()
    try check("raw", body(&result))
    return Sample(result)
}

extension Sample {
    init(_ result: craw_result) {
        self.init(operations: result.operations, nanoseconds: result.nanoseconds)
        if result.turns > 0 { notes.append(("turns", result.turns)) }
        if result.wakes > 0 { notes.append(("wakes", result.wakes)) }
        notes += Sample.percentiles(
            (result.percentiles.0, result.percentiles.1, result.percentiles.2, result.percentiles.3))
    }

    /// Of single latencies, which are sorted here. None without any.
    static func percentiles(_ latencies: UnsafeMutableBufferPointer<UInt64>) -> [(String, UInt64)] {
        guard let base = latencies.baseAddress else { return [] }
        var result = craw_result()
        craw_percentiles(base, UInt64(latencies.count), &result)
        return percentiles((result.percentiles.0, result.percentiles.1, result.percentiles.2, result.percentiles.3))
    }

    private static func percentiles(_ values: (UInt64, UInt64, UInt64, UInt64)) -> [(String, UInt64)] {
        guard values.3 > 0 else { return [] }
        return [("p50", values.0), ("p90", values.1), ("p99", values.2), ("p999", values.3)]
    }
}

/// Runs subjects in this process.
enum Harness {
    /// One sample, after a quarter of the work to warm up.
    static func sample(_ testCase: Case, _ subject: Subject, operations: Int) throws -> Sample {
        if !testCase.isCold { _ = try once(testCase, subject, operations: max(operations / 4, 1)) }
        return try once(testCase, subject, operations: operations)
    }

    static func once(_ testCase: Case, _ subject: Subject, operations: Int) throws -> Sample {
        try check("RLIMIT_NOFILE", craw_raise_descriptor_limit(descriptorsNeeded))
        // Also where the subject pins: what one run does to this thread, the next one must not find.
        try check("sched_getaffinity", craw_affinity_save())
        defer { _ = craw_affinity_restore() }
        if testCase.isPinned { try check("sched_setaffinity", craw_pin(allowedCPUs()[0])) }
        return try subject.run(operations)
    }

    static let descriptorsNeeded: CInt = 4096

    static func progress(_ text: String) {
        var line = Array((text + "\n").utf8)
        _ = write(STDERR_FILENO, &line, line.count)
    }

    /// The CPUs that this process may use, lowest first.
    static func allowedCPUs() throws -> [CInt] {
        var cpus = [CInt](repeating: 0, count: 64)
        let count = try check("sched_getaffinity", craw_allowed_cpus(&cpus, CInt(cpus.count)))
        return Array(cpus.prefix(Int(count)))
    }

    /// The first and the last of them: two CPUs if there are two.
    static func twoCPUs() throws -> [CInt] {
        let allowed = try allowedCPUs()
        return [allowed[0], allowed[allowed.count - 1]]
    }
}
