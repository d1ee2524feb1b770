import TestSupport
import Testing

/// The contract, and the tests that prove it.
@Suite("Tidy clauses", .gated)
struct ClauseTests {
    /// An id such as `W3`: a letter and a number.
    private static func isClause(_ word: Substring) -> Bool {
        guard let first = word.first, first.isUppercase, word.count > 1 else { return false }
        return word.dropFirst().allSatisfy(\.isNumber)
    }

    /// The clauses that the guides promise: those with a heading of their own.
    private static let promised: Set<String> = {
        var ids: Set<String> = []
        for guide in Tree.guides where guide.path.hasSuffix("Contract.md") {
            for line in guide.lines where line.hasPrefix("### ") {
                let words = line.split(separator: " ")
                if words.count > 1, isClause(words[1]) { ids.insert(String(words[1])) }
            }
        }
        return ids
    }()

    private struct NamedTest {
        let file: SourceFile
        let line: Int
        let name: Substring?

        /// The ids at the beginning of its name.
        var clauses: [String] {
            guard let name else { return [] }
            return name.split(separator: " ").prefix { ClauseTests.isClause($0) }.map(String.init)
        }
    }

    /// Every test of the tree, with its display name.
    private static let tests: [NamedTest] = {
        var found: [NamedTest] = []
        for file in Tree.swift where file.isBelow("Tests") {
            let lines = file.lines
            for (index, line) in lines.enumerated() where line.drop(while: { $0 == " " }).hasPrefix("@Test") {
                // The name may stand on the next line.
                let text = lines[index...].prefix(2).joined(separator: " ")
                let parts = text.split(separator: "\"", maxSplits: 2, omittingEmptySubsequences: false)
                found.append(NamedTest(file: file, line: index + 1, name: parts.count > 2 ? parts[1] : nil))
            }
        }
        return found
    }()

    @Test("tidy: each clause of the contracts is named by a test")
    func clausesHaveTests() {
        #expect(Self.promised.count > 60)
        let tested = Set(Self.tests.flatMap(\.clauses))
        #expect(Self.promised.subtracting(tested).sorted() == [])
    }

    @Test("tidy: each test names a clause that there is, or says that it is of another kind")
    func testsHaveClauses() {
        #expect(Self.tests.count > 200)
        for test in Self.tests {
            let place = "\(test.file.path):\(test.line)"
            guard let name = test.name else {
                Issue.record("no display name: \(place)")
                continue
            }
            if name.hasPrefix("tidy: "), test.file.isBelow("Tests/TidyTests") { continue }
            if name.hasPrefix("kernel: "), test.file.isBelow("Tests/KernelFactTests") { continue }
            #expect(!test.clauses.isEmpty, "names no clause: \(place): \(name)")
            for clause in test.clauses { #expect(Self.promised.contains(clause), "\(clause): \(place)") }
        }
    }

    @Test("tidy: no two tests have the same name")
    func namesAreUnique() {
        var seen: [Substring: SourceFile] = [:]
        for test in Self.tests {
            guard let name = test.name else { continue }
            if let other = seen[name] { Issue.record("\(test.file) and \(other): \(name)") }
            seen[name] = test.file
        }
    }

    @Test("tidy: a clause that the sources refer to is in the contracts")
    func references() {
        for file in Tree.swift + Tree.c where file.isBelow("Sources") {
            for (index, line) in file.lines.enumerated() {
                for part in line.split(separator: "Contract ").dropFirst() where line.contains("Contract ") {
                    let word = part.prefix { $0.isLetter || $0.isNumber }
                    guard Self.isClause(word) else { continue }
                    #expect(Self.promised.contains(String(word)), "\(word): \(file.path):\(index + 1)")
                }
            }
        }
    }
}
