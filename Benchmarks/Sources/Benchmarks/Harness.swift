import CRaw
import Glibc

/// What one run of one subject measured, by its own clock, over the work alone.
struct Sample {
    var operations: UInt64
    var nanoseconds: UInt64
    /// Whatever helps to read the figure: turns, wakes.
    var notes: [(name: String, value: UInt64)] = []

    var rate: Double { Double(operations) * 1e9 / Double(max(nanoseconds, 1)) }
}

struct Subject: Sendable {
    let name: String
    let run: @Sendable (_ operations: Int) throws -> Sample
}

struct Case: Sendable {
    let name: String
    let unit: String
    let operations: Int
    /// nil: the subjects choose CPUs for their own threads.
    let cpu: CInt?
    /// The first one is the yardstick of the ratios.
    let subjects: [Subject]
}

protocol Suite: SendableMetatype {
    static var name: String { get }
    static var cases: [Case] { get }
}

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

enum Harness {
    static func compare(_ testCase: Case, suite: String, runs: Int, operations: Int) throws -> [Line] {
        let subjects = testCase.subjects
        for subject in subjects {
            progress("\(suite).\(testCase.name): warm-up, \(subject.name)")
            _ = try sample(testCase, subject, operations: max(operations / 4, 1))
        }
        var samples = [[Sample]](repeating: [], count: subjects.count)
        for round in 0..<runs {
            progress("\(suite).\(testCase.name): round \(round + 1) of \(runs)")
            for turn in subjects.indices {
                let index = (turn + round) % subjects.count
                samples[index].append(try sample(testCase, subjects[index], operations: operations))
            }
        }
        return subjects.indices.map { index in
            Line(
                suite: suite, testCase: testCase.name, subject: subjects[index].name, unit: testCase.unit,
                rates: Statistics(samples[index].map(\.rate)),
                ratios: Statistics(zip(samples[index], samples[0]).map { $0.rate / $1.rate }),
                notes: medianNotes(samples[index]))
        }
    }

    static func sample(_ testCase: Case, _ subject: Subject, operations: Int) throws -> Sample {
        try check("RLIMIT_NOFILE", craw_raise_descriptor_limit(4096))
        guard let cpu = testCase.cpu else { return try subject.run(operations) }
        try check("sched_getaffinity", craw_affinity_save())
        try check("sched_setaffinity", craw_pin(cpu))
        defer { _ = craw_affinity_restore() }
        return try subject.run(operations)
    }

    private static func medianNotes(_ samples: [Sample]) -> [(String, Double)] {
        samples[0].notes.indices.map { note in
            (samples[0].notes[note].name, Statistics(samples.map { Double($0.notes[note].value) }).median)
        }
    }

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
}

struct Statistics {
    private let sorted: [Double]

    init(_ values: [Double]) {
        precondition(!values.isEmpty)
        sorted = values.sorted()
    }

    var count: Int { sorted.count }
    var min: Double { sorted[0] }
    var max: Double { sorted[sorted.count - 1] }
    var median: Double { quantile(0.5) }
    var lowerQuartile: Double { quantile(0.25) }
    var upperQuartile: Double { quantile(0.75) }

    /// Linear between the two nearest.
    private func quantile(_ fraction: Double) -> Double {
        let position = fraction * Double(sorted.count - 1)
        let below = Int(position)
        let above = Swift.min(below + 1, sorted.count - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (position - Double(below))
    }
}
