/// CPUs or nodes by number, as the kernel lists them: "0-3,8".
struct CPUSet: Hashable, Sendable, CustomStringConvertible {
    /// Ascending, each once.
    private(set) var numbers: [Int]

    /// No kernel can be built for more CPUs. A list that names more is not one, and must not cost memory.
    private static let limit = 8_192

    init(_ numbers: some Sequence<Int>) { self.numbers = Set(numbers).sorted() }

    /// Nil if the text is no list of the kernel's. An empty text is the empty list.
    init?(parsing text: some StringProtocol) {
        var found: [Int] = []
        let trimmed = text.drop { $0.isWhitespace }.prefix { !$0.isWhitespace }
        guard text.allSatisfy({ $0.isWhitespace || $0.isNumber || $0 == "," || $0 == "-" }) else { return nil }
        guard !trimmed.isEmpty else {
            self.init([])
            return
        }
        for part in trimmed.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
            guard let first = Self.number(ends[0]), let last = ends.count > 1 ? Self.number(ends[1]) : first,
                first <= last, found.count + last - first < Self.limit
            else { return nil }
            found.append(contentsOf: first...last)
        }
        self.init(found)
    }

    private static func number(_ text: some StringProtocol) -> Int? {
        guard let first = text.first, first.isNumber, let number = Int(text), number < limit else { return nil }
        return number
    }

    var isEmpty: Bool { numbers.isEmpty }

    func intersection(_ other: CPUSet) -> CPUSet { CPUSet(Set(numbers).intersection(other.numbers)) }

    var description: String {
        guard var first = numbers.first else { return "none" }
        var parts: [String] = []
        var last = first
        for number in numbers.dropFirst() + [Int.max] {
            if number == last + 1 {
                last = number
                continue
            }
            parts.append(first == last ? "\(first)" : "\(first)-\(last)")
            first = number
            last = number
        }
        return parts.joined(separator: ",")
    }
}
