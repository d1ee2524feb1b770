import Foundation

/// Whoever takes part in a case: a program that measures one sample and prints it in one line.
struct Participant {
    let name: String
    let program: String
    let arguments: [String]

    /// A subject of this program, in a process of its own: nobody inherits another's heap.
    static func own(_ subject: String, _ caseName: String) -> Participant {
        Participant(
            name: subject, program: "/proc/self/exe", arguments: ["once", caseName, subject, "--warm", "--plain"])
    }

    func sample(operations: Int) throws -> Sample {
        let isOwn = program == "/proc/self/exe"
        let output = try Child.run(
            program, arguments + (isOwn ? ["--operations", "\(operations)"] : ["\(operations)"]))
        guard let sample = Sample(line: output) else {
            throw ChildFailure(command: ([program] + arguments).joined(separator: " "), what: "printed \(output)")
        }
        return sample
    }
}

/// A peer's program: `--list` names its cases, `--version` what it is built with.
struct Peer {
    let name: String
    let program: String
    let version: String
    private let cases: Set<String>

    init(program: String) throws {
        self.program = program
        name = String((program as NSString).lastPathComponent.dropFirst(Peer.prefix.count))
        version = try Child.run(program, ["--version"])
        cases = Set(try Child.run(program, ["--list"]).split(separator: "\n").map(String.init))
    }

    static func all(in folder: String) throws -> [Peer] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
            .filter { $0.hasPrefix(prefix) && FileManager.default.isExecutableFile(atPath: folder + "/" + $0) }
            .map { try Peer(program: folder + "/" + $0) }
    }

    func participant(_ caseName: String) -> Participant? {
        cases.contains(caseName) ? Participant(name: name, program: program, arguments: [caseName]) : nil
    }

    private static let prefix = "peer-"
}

extension Sample {
    /// `OPERATIONS NANOSECONDS [name value]...`
    init?(line: String) {
        let words = line.split(whereSeparator: \.isWhitespace)
        guard words.count >= 2, words.count % 2 == 0, let operations = UInt64(words[0]),
            let nanoseconds = UInt64(words[1])
        else { return nil }
        self.init(operations: operations, nanoseconds: nanoseconds)
        for index in stride(from: 2, to: words.count, by: 2) {
            guard let value = UInt64(words[index + 1]) else { return nil }
            notes.append((String(words[index]), value))
        }
    }

    var line: String {
        (["\(operations)", "\(nanoseconds)"] + notes.map { "\($0.name) \($0.value)" }).joined(separator: " ")
    }
}

struct ChildFailure: Error, CustomStringConvertible {
    let command: String
    let what: String
    var description: String { "\(command): \(what)" }
}

enum Child {
    /// What the program prints; its errors go to ours.
    static func run(_ program: String, _ arguments: [String]) throws -> String {
        let process = Process()
        let output = Pipe()
        // A link of the caller's: in the child it would be the child.
        process.executableURL = URL(fileURLWithPath: program).resolvingSymlinksInPath()
        process.arguments = arguments
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        try process.run()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationReason == .exit, process.terminationStatus == 0 else {
            let way = process.terminationReason == .exit ? "status" : "signal"
            throw ChildFailure(
                command: ([program] + arguments).joined(separator: " "), what: "\(way) \(process.terminationStatus)")
        }
        return String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
}
