// Scripts as text, one act a line, to be read and to be pasted into a test:
//
//     setup unix pipe tcp none close
//     watch 0 edge+read
//     callback 0 1: unwatch 2
//     pump runOnce
//
// What stands before a colon is the place; `callback 0 1` is the second callback of slot 0 from then on.

extension Script: CustomStringConvertible {
    public var description: String {
        let first = "setup \(setup.pairs.map(\.rawValue).joined(separator: " ")) \(setup.end.rawValue)"
        return ([first] + acts.map(\.description)).joined(separator: "\n")
    }

    /// As hexadecimal digits, two a byte.
    public var hex: String {
        let digits = Array("0123456789abcdef")
        return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }

    /// What `description` or `hex` wrote. Nil where a line means nothing.
    public init?(_ text: String) {
        let compact = text.filter { !$0.isWhitespace }
        if !compact.isEmpty, compact.allSatisfy(\.isHexDigit) {
            let digits = compact.compactMap(\.hexDigitValue)
            self.init(
                bytes: stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) })
            return
        }
        self.init(setup: Setup(byte: 0), acts: [])
        for line in text.split(whereSeparator: { $0 == "\n" || $0 == ";" }) {
            let words = line.split(separator: " ").map(String.init)
            if words.isEmpty { continue }
            if words[0] == "setup" {
                let pairs = words[1...].compactMap(Setup.Pair.init)
                guard pairs.count == 4, words.count == 6, let end = Setup.End(rawValue: words[5]) else { return nil }
                setup.pairs = pairs
                setup.end = end
            } else {
                guard let act = Act(String(line)) else { return nil }
                acts.append(act)
            }
        }
    }
}

extension Act: CustomStringConvertible {
    public var description: String {
        var words = [kind.name]
        if kind.hasSubject { words.append("\(subject)") }
        switch kind.operand {
        case .none: break
        case .number: words.append("\(operand)")
        case .choice(let names): words.append(names[Int(operand)])
        case .flags(let names):
            let present = names.indices.filter { operand >> $0 & 1 == 1 }.map { names[$0] }
            words.append(present.isEmpty ? "nothing" : present.joined(separator: "+"))
        }
        return (place == .now ? "" : "\(place.text): ") + words.joined(separator: " ")
    }

    /// What `description` wrote. Nil where it means nothing.
    public init?(_ line: String) {
        let parts = line.split(separator: ":", maxSplits: 1)
        guard let last = parts.last, let place = parts.count == 1 ? .now : Place(text: parts[0]) else { return nil }
        var words = last.split(separator: " ")[...]
        guard let kind = words.popFirst().flatMap({ Kind(name: $0) }) else { return nil }
        var subject: UInt8 = 0
        var operand: UInt8 = 0
        if kind.hasSubject {
            guard let number = words.popFirst().flatMap({ UInt8($0) }) else { return nil }
            subject = number
        }
        switch (kind.operand, words.popFirst()) {
        case (.none, nil): break
        case (.number, let word?):
            guard let number = UInt8(word) else { return nil }
            operand = number
        case (.choice(let names), let word?):
            guard let index = names.firstIndex(of: String(word)) else { return nil }
            operand = UInt8(index)
        case (.flags(let names), let word?):
            for name in word.split(separator: "+") where name != "nothing" {
                guard let index = names.firstIndex(of: String(name)) else { return nil }
                operand |= 1 << index
            }
        default: return nil
        }
        guard words.isEmpty else { return nil }
        self.init(kind, subject, operand, place)
    }
}

extension Act.Place {
    var text: String {
        switch self {
        case .now: "now"
        case .callback(let slot, let nth): "callback \(slot) \(nth)"
        case .deferred: "deferred"
        case .release: "release"
        case .tick: "tick"
        case .timer: "timer"
        case .wake: "wake"
        case .counter: "counter"
        case .child: "child"
        }
    }

    init?(text: Substring) {
        let words = text.split(separator: " ")
        if words.count == 3, words[0] == "callback", let slot = UInt8(words[1]), let nth = UInt8(words[2]) {
            self = .callback(slot: slot & 7, nth: nth & 7)
            return
        }
        let plain: [Act.Place] = [.now, .deferred, .release, .tick, .timer, .wake, .counter, .child]
        guard words.count == 1, let place = plain.first(where: { $0.text == words[0] }) else { return nil }
        self = place
    }
}
