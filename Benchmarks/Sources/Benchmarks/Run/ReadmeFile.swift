import Foundation

/// The table in a README stands between two marks, so that it can be made anew.
extension Readme {
    private static let begin = "<!-- measured: tools/bench --readme -->\n"
    private static let end = "<!-- end of measured -->"

    struct NoMarks: Error, CustomStringConvertible {
        let path: String
        var description: String { "\(path) has no place for the table: \(Readme.begin)\(Readme.end)" }
    }

    static func replace(in path: String, with measurements: [Measurement]) throws {
        let text = try String(contentsOfFile: path, encoding: .utf8)
        guard let first = text.range(of: begin), let last = text.range(of: end, range: first.upperBound..<text.endIndex)
        else { throw NoMarks(path: path) }
        let table = table(measurements)
        try (text[..<first.upperBound] + "\n" + table + "\n" + text[last.lowerBound...])
            .write(toFile: path, atomically: true, encoding: .utf8)
    }
}
