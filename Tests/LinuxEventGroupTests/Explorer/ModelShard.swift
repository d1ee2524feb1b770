@testable import LinuxEventGroup
import Synchronization

/// A shard as far as its mailbox is concerned: the steps of `Shard.run`, `Shard.wait` and `Shard.end`, in their order.
final class ModelShard {
    private let parties: Parties
    private let world: World
    private let mailbox: Mailbox<ExploredWord, ExploredNode>
    private let word: Int
    let bell: Int
    private let ending: Ending<ExploredFlag, ExploredNode, ExploredLock<Orphans>>
    private let abandoned: ExploredFlag
    private let refuses: ExploredWord
    /// Somebody may stop it.
    private let stops: Bool
    /// Where empty nodes come home to; its own shard posts with them.
    private let home: ReturnStack<ExploredWord, ExploredNode>
    /// Whose nodes it brings home.
    var origin: ModelShard?
    /// What a task does beside.
    var onTask: (_ task: Int, _ hand: inout Hand) -> Void = { _, _ in }
    /// Nodes that it may make.
    var slab: [ExploredNode] = []

    private let sleeps, wakes, selfDisarms, isAsleep, closedAt: Int
    private var fault: Fault? { parties.fault }

    /// Nodes in a shard's own hands.
    struct Hand {
        /// To post with.
        var free: UInt = 0
        var made = 0
        /// Emptied, and to be brought home.
        var first: UInt = 0
        var last: UInt = 0
        var count = 0

        var digest: UInt { ((((free << 8 | UInt(made)) << 10 | first) << 10) | last) << 4 | UInt(count) }
    }

    private static let listLimit = 2

    init(_ parties: Parties, name: String, stops: Bool = false) {
        self.parties = parties
        self.stops = stops
        let world = parties.world
        self.world = world
        mailbox = Mailbox()
        word = world.nameWord("\(name)'s mailbox")
        home = ReturnStack()
        world.faults[world.nameWord("\(name)'s home")] = Self.homeFault(parties.fault)
        abandoned = ExploredFlag()
        ending = Ending(abandoned)
        _ = world.nameWord("whether \(name) is abandoned")
        refuses = ExploredWord(0)
        _ = world.nameWord("whether \(name) refuses")
        bell = world.addBell()
        (sleeps, wakes, selfDisarms) = (world.addNote(), world.addNote(), world.addNote())
        (isAsleep, closedAt) = (world.addNote(), world.addNote())
        world.faults[word] = Self.mailboxFault(parties.fault)
        parties.shards.append(self)
    }

    private static func mailboxFault(_ fault: Fault?) -> WordFault? {
        switch fault {
        case .skipsExchangeWhenAwake: .comparesByStoreExceptFrom(1)
        case .armsByStore: .comparesByStoreFor(1)
        case .takesWithoutAcquiring: .exchangeAcquiresNothing(for: 0)
        case .takesByStore: .exchangesByStore(for: 0)
        case .pushesWithoutReleasing: .releasesNothing
        case .closesByStore: .exchangesByStore(for: 2)
        case .closesWithoutAcquiring: .exchangeAcquiresNothing(for: 2)
        case .looksAcquire: .loadsAcquire
        case .sleepIsOrdered: .compareIsOrdered(for: 1)
        case .exchangesStrongly: .exchangesStrongly
        case .closesWithoutReleasing: .exchangeReleasesNothing(for: 2)
        default: nil
        }
    }

    static func homeFault(_ fault: Fault?) -> WordFault? {
        switch fault {
        case .returnsWithoutReleasing: .releasesNothing
        case .returnsByStore: .comparesByStoreAlways
        case .fetchesWithoutAcquiring: .acquiresNothing
        case .fetchesByStore: .exchangesByStore(for: 0)
        case .looksAcquire: .loadsAcquire
        case .exchangesStrongly: .exchangesStrongly
        default: nil
        }
    }

    // MARK: For others

    var looksAsleep: Bool { ExploredWord(number: word).load(ordering: .relaxed) == 1 }

    func push(newest: ExploredNode, oldest: ExploredNode) -> Mailbox<ExploredWord, ExploredNode>.Push {
        let head = ExploredWord(number: word)
        if fault == .pushesWhenClosed, head.load(ordering: .relaxed) == 2 {
            _ = head.exchange(newest.bits, ordering: .releasing)
            return .pushed
        }
        return mailbox.push(newest: newest, oldest: oldest)
    }

    /// As `ShardCore.wake`.
    func wake() {
        world.note(wakes, world.note(wakes) + 1)
        world.expect(world.note(wakes) <= world.note(sleeps), "a second ring for one sleep")
        parties.ring(bell)
    }

    /// As `ShardCore.requestStop`.
    func requestStop() {
        refuses.store(1, ordering: .relaxed)
        parties.ring(bell)
    }

    /// As `ShardCore.abandon`.
    func abandon() { ending.abandon(mailbox) { world.tell("took \($0) tasks out of the mailbox") } }

    // MARK: Its thread

    private func count(_ note: Int) { world.note(note, world.note(note) + 1) }

    private var isRefusing: Bool { stops && refuses.load(ordering: .relaxed) != 0 }

    private var isAbandoned: Bool { stops && abandoned.isAbandoned }

    func live() {
        var hand = Hand()
        var backlog = Parties.Chain()
        while !isRefusing {
            if backlog.isEmpty { world.landmark(hand.digest) }
            let isRung: Bool
            if backlog.isEmpty, sleep() {
                sendAll(&hand)
                world.note(isAsleep, 1)
                isRung = world.await(bell, blocks: true)
                world.note(isAsleep, 0)
            } else {
                isRung = world.await(bell, blocks: false)
            }
            backlog.append(take())
            if isRung { world.hear(bell) }
            run(&backlog, &hand)
        }
        end(&backlog, &hand)
    }

    private func sleep() -> Bool {
        let isArmed = mailbox.sleep()
        if isArmed { count(sleeps) }
        return isArmed || fault == .sleepsOnFailure
    }

    private func take() -> Parties.Chain {
        if fault == .leavesBoxOpen { return takeAndLeaveOpen() }
        let taken = mailbox.take()
        if taken.wasSleeping { count(selfDisarms) }
        return taken.tasks
    }

    private func takeAndLeaveOpen() -> Parties.Chain {
        let head = ExploredWord(number: word)
        if [0, 2].contains(head.load(ordering: .relaxed)) { return Parties.Chain() }
        let old = head.exchange(0, ordering: .acquiring)
        if old == 1 { count(selfDisarms) }
        return old > 2 ? Parties.Chain(reversing: old) : Parties.Chain()
    }

    private func run(_ backlog: inout Parties.Chain, _ hand: inout Hand) {
        while !backlog.isEmpty, !isAbandoned, let node = backlog.popFirst() {
            parties.get(node)
            let task = node.task
            if task == 0 {
                // An empty node of its own that came through the mailbox.
                node.next = hand.free
                hand.free = node.bits
                continue
            }
            parties.ran(task)
            onTask(task, &hand)
            recycle(node, &hand)
        }
    }

    private func end(_ backlog: inout Parties.Chain, _ hand: inout Hand) {
        backlog.append(mailbox.close())
        world.note(closedAt, world.values(of: word).count)
        run(&backlog, &hand)
        let orphans = ending.settle()
        if fault != .forgetsOrphans { backlog.append(orphans) }
        while let node = backlog.popFirst() {
            parties.get(node)
            parties.dropped(node.task)
            recycle(node, &hand)
        }
        sendAll(&hand)
        if fault == .wakerGoesWithItsShard { parties.endWaker() } else { parties.letGoOfWaker() }
    }

    // MARK: Nodes

    /// A node of its own to post with.
    func takeNode(_ hand: inout Hand) -> ExploredNode {
        if hand.free == 0 { hand.free = home.takeAll() }
        if hand.free == 0 {
            world.expect(hand.made < slab.count, "more nodes than posts on their way")
            hand.made += 1
            return slab[hand.made - 1]
        }
        let node = ExploredNode(bits: hand.free)
        hand.free = node.next
        if fault != .returnsThroughRingingWord { parties.get(node) }
        return node
    }

    private func recycle(_ node: ExploredNode, _ hand: inout Hand) {
        guard origin != nil else { return }
        if hand.count == 0 { hand.last = node.bits }
        node.next = hand.first
        hand.first = node.bits
        hand.count += 1
        if hand.count == Self.listLimit { sendAll(&hand) }
    }

    private func sendAll(_ hand: inout Hand) {
        guard hand.count > 0, let origin else { return }
        parties.letGo(from: hand.first)
        if fault == .returnsThroughRingingWord {
            var bits = hand.first
            while bits != 0 {
                let node = ExploredNode(bits: bits)
                node.task = 0
                bits = node.next
            }
            _ = origin.push(newest: ExploredNode(bits: hand.first), oldest: ExploredNode(bits: hand.last))
        } else {
            origin.home.giveBack(first: hand.first, last: hand.last)
        }
        (hand.first, hand.last, hand.count) = (0, 0, 0)
    }

    // MARK: The end

    var isWaiting: Bool { world.note(isAsleep) == 1 }

    /// Where no thread can go on.
    func checkEnd() {
        let values = world.values(of: word)
        let isClosed = world.note(closedAt) > 0
        if isClosed {
            world.expect(values.suffix(from: world.note(closedAt)).allSatisfy { $0 == 2 }, "accepted after the close")
        } else {
            world.expect(values.last == 1 && isWaiting, "at rest, and not asleep")
        }
        // A close from outside ends a sleep that nobody rings for.
        let endedByClose = zip(values, values.dropFirst()).filter { $0 == 1 && $1 == 2 }.count
        let ended = world.note(wakes) + world.note(selfDisarms) + endedByClose
        let sleeping = values.last == 1 ? 1 : 0
        world.expect(
            world.note(sleeps) == ended + sleeping,
            "\(world.note(sleeps)) sleeps, \(world.note(wakes)) wakes, \(world.note(selfDisarms)) self-disarms, "
                + "\(sleeping) asleep")
    }
}
