import ContractModel
import Glibc
import LinuxEvent
import TestSupport
import Testing

private let scriptsLimitSeconds: UInt64 = Effort.atMost(Effort.isLong ? 7_200 : 900)

/// Random scripts, done on a loop and on a model of the contract (Tests/ContractModel) at the same time.
///
/// LINUX_EVENT_SEED brings a run back, LINUX_EVENT_SCRIPT runs one script, as text or in hexadecimal digits;
/// LINUX_EVENT_LONG=1 runs 200,000.
@Suite("W D T L10 E C Random scripts", .serialized, .gated(limitSeconds: scriptsLimitSeconds))
struct ModelTests {
    @Test(
        "W3 W5 W6 W7 W9 W10 D1 D2 D3 D6 T3 T4 L10 L15 E1 E2 C1 C3 C4 10,000 random scripts agree with a model")
    func randomScripts() throws {
        if let text = Effort.environment("LINUX_EVENT_SCRIPT") {
            let script = try #require(Script(text), "LINUX_EVENT_SCRIPT is no script")
            print("\(script)\n\(script.hex)")
            var situations = Situations()
            let divergence = Comparison.run(script, counting: &situations, isTracing: true)
            return #expect(divergence == nil)
        }
        var random = SeededGenerator()
        print("random scripts: seed \(random.seed)")
        var situations = Situations()
        var failures = 0
        for index in 0..<(Effort.isLong ? 200_000 : Effort.rounds(10_000)) {
            let script = Script(random: &random)
            guard let divergence = Comparison.run(script, counting: &situations) else { continue }
            report(script, divergence, "script \(index) of seed \(random.seed)")
            failures += 1
            if failures == 3 { return }
        }
        print(situations.summary)
        if Effort.slowness == 1 { #expect(situations.missing == [], "something never took place") }
    }

    /// Cuts a failing script down, and shows it so that it can be pasted into a test.
    private func report(_ script: Script, _ divergence: Divergence, _ name: String) {
        let small = Shrinker.shrink(script) { ModelTests.divergence(of: $0)?.kind == divergence.kind }
        var ignored = Situations()
        let shown = Comparison.run(small, counting: &ignored, isTracing: true)
        Issue.record(
            """
            \(name): \(divergence.text)
            \(small)
            LINUX_EVENT_SCRIPT=\(small.hex)
            \(shown.map(\.description) ?? "cut down, it does not fail every time")
            """)
    }

    private static func divergence(
        of script: Script,
        on makeLoop: () throws(LoopError) -> DrivenLoop = { () throws(LoopError) in try DrivenLoop() }
    ) -> Divergence? {
        var ignored = Situations()
        return Comparison.run(script, counting: &ignored, on: makeLoop)
    }

    @Test(
        "W5 W6 W8 W9 W10 scripts that once failed agree with the model",
        arguments: [
            // A watch that was refused repeated an edge.
            "watch 1 edge+write; pump runOnce; watchWith 1 exclusive+priority; pump runOnce",
            // A change of an exclusive watcher, or of a parked one, watched the file that had got the number.
            "watchWith 5 exclusive; place 4 5; deferred: turn 5 readOff; pump runOnce; turn 5 writeOff; pump runOnce",
            "watch 2 read; turn 2 readOff; close 3 unwatched; pump runOnce; place 0 2; write 1 0; "
                + "turn 2 readOn; pump halves",
            "watch 5 write; callback 5 0: place 5 3; watch 3 write; interest 3 nothing; close 2 unwatched; "
                + "pump runOnce; interest 3 write; pump runOnce",
            // A change of an exclusive watcher that was undone in its turn repeated an edge.
            "callback 0 0: turn 0 readOff; callback 0 0: turn 0 readOn; watchWith 0 edge+exclusive; shut 0 reading; "
                + "run deferredStop; pump runOnce",
            // A number that had come back to its file could not be watched exclusively, nor after an exclusive watcher.
            "watch 3 nothing; copy 3 7; close 3 watched; unwatch 3; copy 7 3; watchWith 3 exclusive; pump runOnce",
            "watchWith 3 exclusive; copy 3 7; close 3 watched; unwatch 3; copy 7 3; watch 3 write; pump runOnce",
            // A watcher that was parked, and brought back by a change in the same turn.
            "place 2 3; watch 3 write; callback 2 0: turn 3 writeOn; turn 3 writeOff; watch 2 read; pump runOnce",
        ])
    func onceFailed(text: String) throws {
        let script = try #require(Script(text))
        #expect(ModelTests.divergence(of: script) == nil)
    }

    @Test("W5 every string of bytes is a script, which its text and its bytes bring back")
    func bytesAndText() {
        var random = SeededGenerator()
        print("bytes and text: seed \(random.seed)")
        for length in 0..<300 {
            let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
            let script = Script(bytes: bytes)
            #expect(script.acts.count == min((length + 2) / 4, Script.longest))
            #expect(Script(bytes: script.bytes) == script)
            #expect(Script(script.hex) == script)
            #expect(Script(script.description) == script)
        }
        for text in ["dance 1", "pump", "watch 0 reed", "callback 1: stop", "setup unix", "stop 1", "write 300 1"] {
            #expect(Script(text) == nil)
        }
    }

    @Test("W3 W5 D4 T3 L10 a loop that breaks the contract is found out, by a short script", arguments: Lie.allCases)
    func liesAreFound(lie: Lie) throws {
        var random = SeededGenerator()
        let seed = random.seed
        func fails(_ script: Script) -> Divergence? {
            ModelTests.divergence(of: script) { () throws(LoopError) in try LyingLoop(lie) }
        }
        for _ in 0..<2_000 {
            var script = Script(random: &random)
            // A loop that lies about its stop would run for ever.
            script.acts.removeAll { $0.kind == .run }
            guard let divergence = fails(script) else { continue }
            let small = Shrinker.shrink(script) { fails($0) != nil }
            #expect(small.acts.count <= 6, "seed \(seed): \(divergence.text) by\n\(small)")
            #expect(ModelTests.divergence(of: small) == nil, "seed \(seed): not only a lie\n\(small)")
            print("\(lie): \(fails(small)?.text ?? "") by\n\(small)")
            return
        }
        Issue.record("seed \(seed): the lie was believed")
    }
}

extension Divergence {
    /// Without the numbers, which differ from run to run.
    var kind: String { text.filter { !$0.isNumber } }
}

/// A way to break the contract.
enum Lie: CaseIterable {
    case dropsACallback, runsOneTwice, runsAfterCancel, writesBeforeReading, tellsAnotherDescriptor, reportsNoErrors
    case ignoresInterest, forgetsOneshot, closesDescriptors, keepsHandlers, refusesAWatch, deniesRemoval
    case timerEarly, timerNever, deferredOutOfOrder, deferredAtOnce
}

/// A loop that keeps the contract but for one thing.
final class LyingLoop: DrivenLoop {
    private let lie: Lie
    private var calls = 0
    private var watches = 0
    private var handlers: [CInt: Handler] = [:]
    private var kept: [Request] = []
    private var held: ((Loop) -> Void)?

    init(_ lie: Lie) throws(LoopError) {
        self.lie = lie
        try super.init()
    }

    override func watch(_ plain: Request) throws(LoopError) -> Watcher {
        var request = plain
        watches += 1
        switch lie {
        case .dropsACallback, .runsOneTwice, .tellsAnotherDescriptor:
            request.read = bent(request.read)
            request.write = bent(request.write)
            request.error = bent(request.error)
        case .writesBeforeReading:
            if let read = request.read, let write = request.write {
                request.read = { loop, descriptor, watcher in
                    write(loop, descriptor, watcher)
                    read(loop, descriptor, watcher)
                }
            }
        case .reportsNoErrors: request.error = nil
        case .forgetsOneshot: request.oneshot = false
        case .keepsHandlers: kept.append(request)
        case .refusesAWatch:
            if watches == 2 { throw .system(SystemError(call: "epoll_ctl", code: 2)) }
        case .runsAfterCancel: handlers[request.descriptor] = request.read ?? request.write
        default: break
        }
        return try super.watch(request)
    }

    private func bent(_ handler: Handler?) -> Handler? {
        guard let handler else { return nil }
        return { [unowned self] loop, descriptor, watcher in
            self.calls += 1
            switch self.lie {
            case .dropsACallback where self.calls == 2: break
            case .runsOneTwice where self.calls == 2:
                handler(loop, descriptor, watcher)
                handler(loop, descriptor, watcher)
            case .tellsAnotherDescriptor: handler(loop, descriptor + 1, watcher)
            default: handler(loop, descriptor, watcher)
            }
        }
    }

    override func unwatch(_ descriptor: CInt) throws(LoopError) -> Bool {
        if lie == .closesDescriptors { close(descriptor) }
        let watcher = loop.watcher(of: descriptor)
        let removed = try super.unwatch(descriptor)
        if lie == .runsAfterCancel, let watcher, let handler = handlers[descriptor] {
            super.defer { loop in handler(loop, descriptor, watcher) }
        }
        return lie == .deniesRemoval ? false : removed
    }

    override func setInterest(_ watcher: Watcher, _ interest: Interest) throws(LoopError) -> Bool {
        if lie == .ignoresInterest { return watcher.isActive }
        return try super.setInterest(watcher, interest)
    }

    override func at(_ deadline: Instant, _ handler: @escaping (Loop, Timer) -> Void) -> Timer {
        switch lie {
        case .timerEarly: super.at(Instant(nanoseconds: deadline.nanoseconds / 2), handler)
        case .timerNever: super.at(deadline, { _, _ in })
        default: super.at(deadline, handler)
        }
    }

    override func `defer`(_ block: @escaping (Loop) -> Void) {
        switch lie {
        case .deferredAtOnce: block(loop)
        case .deferredOutOfOrder:
            guard let first = held else {
                held = block
                return super.defer { [unowned self] loop in self.runHeld(loop) }
            }
            held = nil
            super.defer(block)
            super.defer(first)
        default: super.defer(block)
        }
    }

    private func runHeld(_ loop: Loop) {
        let block = held
        held = nil
        block?(loop)
    }
}
