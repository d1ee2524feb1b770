import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite {
    /// What the compiler refuses, and what traps where the compiler cannot see it.
    @Suite("L One thread")
    struct ThreadTests {
        @Test("L1 every public entry traps on a thread that did not make the loop", arguments: Trespass.allCases)
        func entryTraps(entry: Trespass) async throws {
            let result = await #expect(
                processExitsWith: .failure, observing: [\.exitStatus, \.standardErrorContent]
            ) { [name = entry.rawValue as String] in
                perform(Trespass(rawValue: name), elsewhere: true)
            }
            let outcome = try #require(result)
            // A trap, not an error that ended the helper: and its text is the rule.
            #expect(outcome.exitStatus == .signal(SIGILL) || outcome.exitStatus == .signal(SIGTRAP))
            let text = String(decoding: outcome.standardErrorContent, as: UTF8.self)
            #expect(text.contains("thread"), "\(text)")
        }

        @Test("L1 the same calls on the loop's own thread do not trap")
        func entriesAtHome() async {
            await #expect(processExitsWith: .success) {
                for entry in Trespass.allCases { perform(entry, elsewhere: false) }
            }
        }

        @Test("L1 the waker and signallers may be used from any thread")
        func sendableParts() throws {
            let loop = try Loop()
            var woken = 0
            var counted: UInt64 = 0
            loop.onWake { _ in woken += 1 }
            let event = try loop.eventfd { _, event in counted += event.count }
            let waker = loop.waker
            let signaller = event.signaller
            Threads.spawn {
                waker.signal()
                signaller.signal(5)
            }.join()
            try pump(loop, 2)
            #expect(woken == 1)
            #expect(counted == 5)
        }

        // MARK: what does not compile

        @Test(
            "L1 misuse across threads does not compile", .enabled(if: WrongProgram.canCompile, "no swiftc here"),
            arguments: WrongProgram.all)
        func wrongProgram(program: WrongProgram) throws {
            let outcome = try program.compile()
            if program.words.isEmpty {
                #expect(outcome.exitCode == 0, "the control must compile: \(outcome)")
            } else {
                #expect(outcome.exitCode != nil && outcome.exitCode != 0, "it compiles")
                let errors = outcome.errors.split(separator: "\n").filter { $0.contains("error:") }
                for word in program.words {
                    #expect(errors.contains { $0.contains(word) }, "no error with \"\(word)\": \(outcome.errors)")
                }
            }
        }

        @Test(
            "L1 there are programs that must not compile, and one that must",
            .enabled(if: WrongProgram.sourcesAreHere, "the sources of the tests are not here"))
        func wrongProgramsExist() {
            #expect(WrongProgram.all.filter { !$0.words.isEmpty }.count >= 9)
            #expect(WrongProgram.all.filter { $0.words.isEmpty }.count == 1)
        }
    }
}

/// A public entry of a loop's or a handle's.
enum Trespass: String, CaseIterable, Sendable {
    case run, runOnce, wait, dispatch, stop, close, descriptor, now, updateNow, statistics
    case watch, watchData, unwatch, watcherOf, after, at, every, `defer`, onWake, eventfd, signal
    case watcherCancel, watcherRearm, enableRead, disableRead, enableWrite, disableWrite, setInterest
    case timerCancel, eventCancel
}

/// Does one thing with a loop, on the thread that made it or on another.
private func perform(_ entry: Trespass?, elsewhere: Bool) {
    do {
        let loop = try Loop()
        let pipe = Pipe()
        let watcher = try loop.watch(pipe.reader, read: { _, _, _ in })
        let timer = loop.after(.seconds(100)) { _, _ in }
        let event = try loop.eventfd { _, _ in }
        let act = { () throws -> Void in
            switch entry {
            case .run:
                loop.stop()
                try loop.run()
            case .runOnce: try loop.runOnce(timeout: .zero)
            case .wait: try loop.wait(timeout: .zero)
            case .dispatch: try loop.dispatch()
            case .stop: loop.stop()
            case .close: try loop.close()
            case .descriptor: _ = try loop.descriptor
            case .now: _ = loop.now
            case .updateNow: loop.updateNow()
            case .statistics: _ = loop.statistics
            case .watch: try loop.watch(pipe.writer, write: { _, _, _ in })
            case .watchData: try loop.watch(pipe.writer, write: { _, _, _, _ in }, data: 1)
            case .unwatch: try loop.unwatch(pipe.reader)
            case .watcherOf: _ = loop.watcher(of: pipe.reader)
            case .after: loop.after(.seconds(1)) { _, _ in }
            case .at: loop.at(.now) { _, _ in }
            case .every: try loop.every(.seconds(1)) { _, _ in }
            case .defer: loop.defer { _ in }
            case .onWake: loop.onWake { _ in }
            case .eventfd: try loop.eventfd { _, _ in }
            // At home this may be refused, since other threads of the helper do not block the signal.
            case .signal: _ = try? loop.signal(SIGUSR1) { _, _ in }
            case .watcherCancel: watcher.cancel()
            case .watcherRearm: try watcher.rearm()
            case .enableRead: try watcher.enableRead()
            case .disableRead: try watcher.disableRead()
            case .enableWrite: try watcher.enableWrite()
            case .disableWrite: try watcher.disableWrite()
            case .setInterest: try watcher.setInterest([.read])
            case .timerCancel: timer.cancel()
            case .eventCancel: event.cancel()
            case nil: fatalError("no such entry")
            }
        }
        if elsewhere {
            Threads.runElsewhere { _ = try? act() }
        } else {
            try act()
        }
    } catch {
        // Not a trap: the test tells the two apart.
        let text = "\(String(describing: entry)): \(error)\n"
        _ = write(2, text, text.utf8.count)
        exit(elsewhere ? 0 : 1)
    }
}

/// A program in WrongPrograms/. Its first line says which words the compiler's errors must hold:
/// `// error: word | word`, or `// compiles`.
struct WrongProgram: Sendable, CustomTestStringConvertible {
    let name: String
    let words: [String]
    var testDescription: String { name }

    private static let folder =
        #filePath.split(separator: "/").dropLast().reduce(into: "") { $0 += "/" + $1 }
        + "/WrongPrograms"

    static let all: [WrongProgram] = Files.names(in: folder).filter { $0.hasSuffix(".swift.txt") }.map { name in
        let first = Files.text(folder + "/" + name).prefix { $0 != "\n" }
        let parts = first.split(separator: ":", maxSplits: 1)
        guard parts.count == 2 else { return WrongProgram(name: name, words: []) }
        let words = parts[1].split(separator: "|").map { word in
            String(word.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }
        return WrongProgram(name: name, words: words)
    }

    /// Not so where only the built tests were brought to.
    static var sourcesAreHere: Bool { Files.exists(folder) }
    static var canCompile: Bool { Build.tool("swiftc") != nil }

    /// To the intermediate language, for data races are found only there.
    func compile() throws -> HelperProcess.Outcome {
        let compiler = try #require(Build.tool("swiftc"))
        let modules = try #require(Build.modules(holding: "LinuxEvent"), "no built module; set LINUX_EVENT_MODULES")
        let map = try #require(
            [Build.folder + "/CLinux.build/module.modulemap"].first { Files.exists($0) }, "no map of CLinux")
        let source = "/tmp/linux-event-\(getpid())-" + name.dropLast(4)
        let text = Files.text(WrongProgram.folder + "/" + name)
        let file = open(source, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        _ = write(file, text, text.utf8.count)
        close(file)
        defer { unlink(source) }
        return HelperProcess(
            compiler,
            [
                "-emit-sil", "-o", "/dev/null", "-swift-version", "6", "-parse-as-library", "-module-name", "Wrong",
                "-I", modules, "-Xcc", "-fmodule-map-file=" + map, source,
            ]
        ).end(withinSeconds: 90)
    }
}
