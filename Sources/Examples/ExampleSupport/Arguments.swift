import Glibc

/// One command line option: `--name`, or `--name VALUE` where it has a placeholder.
public struct Option: Sendable {
    let name: String
    let placeholder: String?
    let help: String

    public static func value(_ name: String, _ placeholder: String, _ help: String) -> Option {
        Option(name: name, placeholder: placeholder, help: help)
    }

    public static func flag(_ name: String, _ help: String) -> Option {
        Option(name: name, placeholder: nil, help: help)
    }

    fileprivate var spelling: String { "--\(name)" + (placeholder.map { " \($0)" } ?? "") }
}

/// The command line of an example. `--help` prints and exits 0; what cannot be understood is one line on stderr
/// and exit status 64 (EX_USAGE), so that a script can tell a typing error from a failure.
public struct Arguments: Sendable {
    private let program: String
    private var values: [String: String] = [:]

    public init(_ program: String, about: String, options: [Option]) {
        self.program = program
        var rest = CommandLine.arguments.dropFirst()
        while let word = rest.popFirst() {
            if word == "--help" || word == "-h" {
                Arguments.printHelp(program, about, options)
                exit(EXIT_SUCCESS)
            }
            guard word.hasPrefix("--") else { refuse("unexpected argument \"\(word)\"") }
            let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            guard let option = options.first(where: { $0.name == name }) else { refuse("unknown option --\(name)") }
            if option.placeholder == nil {
                guard parts.count == 1 else { refuse("--\(name) takes no value") }
                values[name] = ""
            } else if parts.count == 2 {
                values[name] = String(parts[1])
            } else {
                guard let value = rest.popFirst() else { refuse("\(option.spelling): the value is missing") }
                values[name] = value
            }
        }
    }

    public func flag(_ name: String) -> Bool { values[name] != nil }

    public func text(_ name: String) -> String? { values[name] }

    public func choice(_ name: String, of choices: [String]) -> String? {
        guard let value = values[name] else { return nil }
        guard choices.contains(value) else {
            refuse("--\(name) takes \(choices.joined(separator: ", ")); not \"\(value)\"")
        }
        return value
    }

    public func integer(_ name: String, in range: ClosedRange<Int>) -> Int? {
        guard let value = values[name] else { return nil }
        guard let number = Int(value), range.contains(number) else {
            refuse("--\(name) takes a whole number from \(range.lowerBound) to \(range.upperBound), not \"\(value)\"")
        }
        return number
    }

    public func refuse(_ why: String) -> Never {
        fail(program, "\(why) (see --help)", status: EX_USAGE)
    }

    private static func printHelp(_ program: String, _ about: String, _ options: [Option]) {
        let all = options + [.flag("help", "print this text")]
        let width = all.map(\.spelling.count).max() ?? 0
        say("\(program): \(about)")
        say("")
        for option in all { say("  \(option.spelling.padded(to: -width))  \(option.help)") }
    }
}
