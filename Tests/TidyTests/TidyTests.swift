import Glibc
import TestSupport
import Testing

/// The rules of the tree that no compiler knows. Gated, since the files that it opens are seen by tests that count
/// the process's descriptors.
@Suite("Tidy", .gated)
struct TidyTests {
    @Test("tidy: the project's files are found")
    func filesAreFound() {
        #expect(Tree.swift.count > 80 && Tree.c.count > 5 && Tree.scripts.count > 3 && Tree.guides.count > 4)
        #expect(Tree.all.allSatisfy { !$0.text.isEmpty })
    }

    @Test("tidy: no tabs, no blanks at a line's end, no line over 120 characters, no mark of unfinished work")
    func lines() {
        // In two parts, so that this file does not hold them.
        let marks = ["TO" + "DO", "FIX" + "ME", "HA" + "CK", "unimple" + "mented"]
        for file in Tree.all {
            for (index, line) in file.lines.enumerated() {
                let place = "\(file.path):\(index + 1)"
                #expect(!line.contains("\t"), "a tab: \(place)")
                #expect(line.last != " ", "blanks at the end: \(place)")
                // A table's row cannot be broken.
                if !file.path.hasSuffix(".md") || line.first != "|" {
                    #expect(line.count <= 120, "\(line.count) characters: \(place)")
                }
                for word in line.split(whereSeparator: { !$0.isLetter }) where marks.contains(String(word)) {
                    Issue.record("\(word): \(place)")
                }
            }
            #expect(file.text.last == "\n", "no newline at the end: \(file.path)")
        }
    }

    /// What each module may import: the graph of modules is the scope.
    private static let imports: [String: Set<String>] = [
        "Sources/LinuxEvent": ["CLinux", "Synchronization"],
        "Sources/LinuxEventGroup": ["CLinux", "CNuma", "Glibc", "LinuxEvent", "Synchronization"],
        "Sources/Examples": ["CLinux", "ExampleSupport", "Glibc", "LinuxEvent", "LinuxEventGroup", "Synchronization"],
        "Tests/KernelFactTests": ["CLinux", "CKernelFacts", "Glibc", "Synchronization", "TestSupport", "Testing"],
    ]

    @Test("tidy: each module imports what its place in the graph allows, and no more")
    func modules() {
        for (folder, allowed) in Self.imports {
            for file in Tree.swift where file.isBelow(folder) {
                for line in file.lines {
                    let words = line.split(separator: " ").filter { !$0.hasPrefix("@") }
                    guard let place = words.firstIndex(of: "import"), place <= 1, place + 1 < words.count else {
                        continue
                    }
                    let module = String(words[place + 1])
                    #expect(allowed.contains(module), "\(file.path) imports \(module)")
                }
            }
        }
        for file in Tree.swift where file.isBelow("Sources") {
            #expect(Self.imports.keys.contains { file.isBelow($0) }, "no rule for \(file.path)")
        }
    }

    /// Rooms with unsafe memory or with the kernel's pointers; all else is safe code. A room that is one no longer has
    /// to leave the list.
    private static let unsafeRooms: Set<String> = [
        "LinuxEvent/Backend/EpollBackend",
        "LinuxEvent/Cell",
        "LinuxEvent/Descriptors/EventFD",
        "LinuxEvent/Descriptors/ProcessFD",
        "LinuxEvent/Descriptors/SignalFD",
        "LinuxEvent/Errors",
        "LinuxEvent/Loop+Dispatch",
        "LinuxEvent/Loop+Signals",
        "LinuxEvent/Timers/TimerBuckets",
        "LinuxEvent/Timers/TimerStore",
        "LinuxEvent/WatcherSet",
        "LinuxEvent/WatcherTable",
        "LinuxEventGroup/Calls/Foreign",
        "LinuxEventGroup/Calls/OpenCall",
        "LinuxEventGroup/Calls/Parcel",
        "LinuxEventGroup/Cores",
        "LinuxEventGroup/Insight/CounterRow",
        "LinuxEventGroup/Insight/Metrics",
        "LinuxEventGroup/Insight/ShardActivity",
        "LinuxEventGroup/Latch",
        "LinuxEventGroup/KernelThread",
        "LinuxEventGroup/Locked",
        "LinuxEventGroup/Mailbox/ChannelSender",
        "LinuxEventGroup/Mailbox/NodePool",
        "LinuxEventGroup/Mailbox/Payload",
        "LinuxEventGroup/Mailbox/TaskChain",
        "LinuxEventGroup/Mailbox/TaskNode",
        "LinuxEventGroup/Mailbox/TaskProgress",
        "LinuxEventGroup/Mailbox/ThreadCache",
        "LinuxEventGroup/Placement/Affinity",
        "LinuxEventGroup/Placement/Memory",
        "LinuxEventGroup/Placement/MemoryReport",
        "LinuxEventGroup/Placement/SystemFiles",
        "LinuxEventGroup/Shard",
        "LinuxEventGroup/ShardCore",
    ]

    @Test("tidy: unsafe code is in the rooms that are listed, and in all of these")
    func unsafeCode() {
        let rooms = Tree.swift.filter { file in
            guard file.isBelow("Sources"), !file.isBelow("Sources/Examples") else { return false }
            return file.lines.contains { line in
                Self.code(line).split { !$0.isLetter && $0 != "_" }.contains("unsafe")
            }
        }
        let found = Set(rooms.map { String($0.path.dropFirst("Sources/".count).dropLast(".swift".count)) })
        #expect(found.subtracting(Self.unsafeRooms).isEmpty, "not listed")
        #expect(Self.unsafeRooms.subtracting(found).isEmpty, "listed and safe")
    }

    @Test("tidy: each promise to the compiler has its reason in the same or the line before")
    func promises() {
        let promises = ["@unchecked " + "Sendable", "nonisolated(" + "unsafe)", "@exclusivity(" + "unchecked)"]
        for file in Tree.swift where file.isBelow("Sources") {
            let lines = file.lines
            for (index, line) in lines.enumerated() where promises.contains(where: { line.contains($0) }) {
                let before = index > 0 ? lines[index - 1] : ""
                #expect(line.contains("//") || before.contains("//"), "\(file.path):\(index + 1)")
            }
        }
    }

    @Test("tidy: no Swift runs between fork and exec, but for the one test of forked children")
    func noForks() {
        let places = Tree.swift.filter { file in
            file.lines.contains { line in
                let words = Self.code(line).split { !$0.isLetter && $0 != "_" && $0 != "(" && $0 != ")" }
                return words.contains("fork" + "()")
            }
        }
        #expect(places.map(\.path) == ["Tests/Fixtures/signal-fixture/Children.swift"])
    }

    @Test("tidy: every public declaration of the libraries says what it is")
    func documentation() {
        // Known from elsewhere: conformances of the standard library's.
        let known = ["static func ==", "static func <", "func hash(into", "var description: ", "rawValue"]
        for file in Tree.swift where file.isBelow("Sources/LinuxEvent") || file.isBelow("Sources/LinuxEventGroup") {
            let lines = file.lines
            for (index, line) in lines.enumerated() {
                let trimmed = line.drop { $0 == " " }
                guard trimmed.hasPrefix("public "), !trimmed.hasPrefix("public import") else { continue }
                if known.contains(where: { trimmed.contains($0) }) { continue }
                // Attributes stand between the comment and its declaration.
                let before = lines[..<index].last { !$0.drop { $0 == " " }.hasPrefix("@") } ?? ""
                #expect(before.drop { $0 == " " }.hasPrefix("///"), "\(file.path):\(index + 1): \(trimmed)")
            }
        }
    }

    @Test("tidy: the shim's public header leaves Glibc's own as they are, and its names have a prefix")
    func shim() {
        let header = Tree.file("Sources/CLinux/include/CLinux.h")
        for file in Tree.c where file.path.hasSuffix(".h") {
            #expect(!file.lines.contains { $0.hasPrefix("#define _GNU_SOURCE") }, "\(file.path)")
        }
        for line in header.lines where line.hasSuffix(");") && line.first != " " && line.first != "/" {
            let name = line.prefix { $0 != "(" }.split { $0 == " " || $0 == "*" }.last ?? ""
            #expect(name.hasPrefix("clinux_"), "\(line)")
        }
    }

    @Test("tidy: README names only tools and files that are there, and every tool")
    func readme() {
        let readme = Tree.file("README.md")
        let words = readme.text.split { !($0.isLetter || $0.isNumber || "/-_.+".contains($0)) }
        let named = Set(words.filter { $0.hasPrefix("tools/") }.map { String($0) })
        for tool in named { #expect(access(Tree.root + "/" + tool, X_OK) == 0, "\(tool)") }
        for tool in Tree.scripts where access(Tree.root + "/" + tool.path, X_OK) == 0 {
            #expect(named.contains(tool.path) || readme.text.contains(tool.path.dropFirst(6)), "\(tool.path)")
        }
        for link in readme.text.split(separator: "](").dropFirst() {
            let target = link.prefix { $0 != ")" }
            if !target.hasPrefix("http") { #expect(Files.exists(Tree.root + "/" + target), "\(target)") }
        }
    }

    /// A line without its comment.
    private static func code(_ line: Substring) -> Substring {
        var last: Character = " "
        for index in line.indices {
            if last == "/", line[index] == "/" { return line[..<line.index(before: index)] }
            last = line[index]
        }
        return line
    }
}
