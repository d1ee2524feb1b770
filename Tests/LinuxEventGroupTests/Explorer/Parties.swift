@testable import LinuxEventGroup

/// Who takes part in a scenario, and what they promise: tasks that run once, nodes that have one owner, wakes that add
/// up. All of it goes through the production's own `Mailbox`, `ReturnStack` and `Ending`.
final class Parties {
    typealias Chain = NodeChain<ExploredNode>

    let world: World
    let fault: Fault?
    private var tasks: [Task] = []
    private var nodes: [Int: Int] = [:]
    var shards: [ModelShard] = []
    /// How many own a reference to what the wakers hang on; none: nobody looks.
    private var references: Int?
    private var isGone = 0
    private var writes = 0

    private struct Task {
        let producer: Int
        let note: Int
    }

    private enum Mark { static let accepted = 1, refused = 2, ran = 4, dropped = 8 }
    private enum Owner { static let somebody = 0, onItsWay = 1 }

    init(_ world: World, _ fault: Fault? = nil) {
        self.world = world
        self.fault = fault
        if fault == .abandonsWithoutLock { world.hasBrokenLocks = true }
    }

    // MARK: Tasks

    /// A task, which comes after the earlier ones of this producer.
    func task(of producer: Int) -> Int {
        tasks.append(Task(producer: producer, note: world.addNote()))
        return tasks.count
    }

    private func mark(_ task: Int, _ mark: Int) {
        let note = tasks[task - 1].note
        world.note(note, world.note(note) | mark)
    }

    private func has(_ task: Int, _ mark: Int) -> Bool { world.note(tasks[task - 1].note) & mark != 0 }

    func accepted(_ task: Int) { mark(task, Mark.accepted) }
    func refused(_ task: Int) { mark(task, Mark.refused) }

    func ran(_ task: Int) {
        world.tell("runs task \(task)")
        world.expect(!has(task, Mark.ran), "task \(task) runs twice")
        for later in task..<tasks.count where tasks[later].producer == tasks[task - 1].producer {
            world.expect(!has(later + 1, Mark.ran), "task \(task) runs after task \(later + 1) of the same producer")
        }
        mark(task, Mark.ran)
    }

    func dropped(_ task: Int) {
        world.tell("destroys task \(task)")
        world.expect(!has(task, Mark.ran) && !has(task, Mark.dropped), "task \(task) ran, and is destroyed")
        mark(task, Mark.dropped)
    }

    // MARK: Nodes

    func node() -> ExploredNode {
        let node = ExploredNode(in: world)
        nodes[node.number] = world.addNote()
        return node
    }

    private func note(of node: ExploredNode) -> Int {
        guard let note = nodes[node.number] else {
            world.fail("\(node.bits) is no node")
            return 0
        }
        return note
    }

    func letGo(_ node: ExploredNode) { world.note(note(of: node), Owner.onItsWay) }

    func letGo(from first: UInt) { walk(first) { letGo($0) } }

    private func get(from first: UInt) { walk(first) { get($0) } }

    private func walk(_ first: UInt, _ body: (ExploredNode) -> Void) {
        var bits = first
        while bits != 0 {
            let node = ExploredNode(bits: bits)
            body(node)
            bits = node.next
        }
    }

    func get(_ node: ExploredNode) {
        world.expect(world.note(note(of: node)) == Owner.onItsWay, "node \(node.number) has two owners")
        world.note(note(of: node), Owner.somebody)
    }

    // MARK: Posts

    func post(_ task: Int, in node: ExploredNode, to shard: ModelShard) {
        node.task = task
        publish([task], newest: node, oldest: node, to: shard)
    }

    /// As `ShardCore.publish`. Nodes that were refused are the caller's as before.
    func publish(_ tasks: [Int], newest: ExploredNode, oldest: ExploredNode, to shard: ModelShard) {
        letGo(from: newest.bits)
        if fault == .ringsBeforePublishing, shard.looksAsleep { shard.wake() }
        let lookedAsleep = fault == .ringsByFirstLook && shard.looksAsleep
        switch shard.push(newest: newest, oldest: oldest) {
        case .pushed:
            for task in tasks { accepted(task) }
            if fault == .ringsAlways { shard.wake() }
        case .mustRing:
            for task in tasks { accepted(task) }
            let isLeftOut = fault == .ringsBeforePublishing || fault == .ringsByFirstLook && !lookedAsleep
            if !isLeftOut { shard.wake() }
        case .closed:
            for task in tasks { refused(task) }
            // As `ChannelSender.publish`: the push may have linked it to what was in the box.
            if fault != .leavesRefusedLinked { oldest.next = 0 }
            get(from: newest.bits)
        }
    }

    // MARK: Wakers

    /// The wakers live until so many threads have let go of them.
    func countReferences(_ count: Int) {
        references = world.addWord(UInt(count))
        _ = world.nameWord("the references")
        isGone = world.addNote()
        writes = world.addNote()
    }

    func letGoOfWaker() {
        guard let references else { return }
        if world.add(references, UInt.max, isAcquiring: true, isReleasing: true) == 0 { endWaker() }
    }

    func endWaker() {
        world.tell("closes the waker's descriptor")
        world.expect(world.note(writes) == 0, "the waker is let go of while a write to it is under way")
        world.note(isGone, 1)
    }

    /// A write to the bell's descriptor: after it has had its effect, it takes a while until it returns.
    func ring(_ bell: Int) {
        guard references != nil else { return world.ring(bell) }
        world.note(writes, world.note(writes) + 1)
        world.ring(bell)
        world.expect(world.note(isGone) == 0, "a write to a waker that is gone")
        if fault == .wakerGoesBeforeWriteReturns { letGoOfWaker() }
        world.pause()
        world.note(writes, world.note(writes) - 1)
    }

    // MARK: The end

    /// Where no thread can go on.
    func checkEnd() {
        for task in tasks.indices.map({ $0 + 1 }) {
            let ended = has(task, Mark.ran) || has(task, Mark.dropped)
            if has(task, Mark.accepted), !ended {
                let isAsleep = shards.contains { $0.isWaiting }
                world.fail("task \(task) was accepted and does not run\(isAsleep ? ": a lost wake-up" : "")")
            }
            world.expect(!has(task, Mark.refused) || !ended, "task \(task) was refused, and not given back")
        }
        for shard in shards { shard.checkEnd() }
    }
}
